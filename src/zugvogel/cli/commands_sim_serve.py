"""`zv sim serve`: a simulated cluster in real time, behind the product's own API."""

from __future__ import annotations

import asyncio
import secrets
import signal
import time
from contextlib import AsyncExitStack, nullcontext
from pathlib import Path
from typing import Annotated

import typer

from zugvogel.cli import output
from zugvogel.errors import InvalidInput
from zugvogel.sim import scenario as scenarios
from zugvogel.sim.activity import Activity
from zugvogel.sim.console import console_over
from zugvogel.sim.run import rare_collections
from zugvogel.sim.serving import Secured, Training, cluster_of, secured, serving

EPILOG = (
    "Examples: zv sim serve --console 7485  |  zv sim serve --hosts 64 --vms 2000 --port 7480  |  "
    "zv sim serve --scenario a-host-loses-its-power --speed 2 --tls"
)


def serve(
    hosts: Annotated[
        int | None, typer.Option(min=2, max=500, help="Hosts of the cluster; 8 unless given.")
    ] = None,
    vms: Annotated[int | None, typer.Option(min=1, max=10_000, help="Its vms; 40 unless given.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="On loopback; 0: any that is free.")] = 7480,
    scenario: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="A scenario (or the name of one of `zv sim list`): its cluster, and its timeline from now on.",
        ),
    ] = "",
    activity: Annotated[
        Activity, typer.Option(help="How often vms are moved, stopped and started.")
    ] = Activity.LOW,
    speed: Annotated[float, typer.Option(min=0.1, max=60, help="Simulated seconds for one of yours.")] = 1.0,
    token: Annotated[str, typer.Option(help="API token with all rights; made up unless given.")] = "",
    console: Annotated[
        int | None,
        typer.Option(
            min=1, max=65_535, metavar="PORT", help="The web console too, on loopback, with a user made up for it."
        ),
    ] = None,
    tls: Annotated[bool, typer.Option("--tls", help="HTTPS, by a CA made for this once.")] = False,
) -> None:
    """The API over a simulated cluster in real time, until Ctrl-C: to practise, to look at, to test against."""
    token = token or f"training.{secrets.token_urlsafe(12)}"
    with rare_collections(), secured() if tls else nullcontext() as security:
        training = _made(_chosen(scenario, hosts, vms), token, activity)
        try:
            asyncio.run(_serve(training, port, speed, security, token, console))
        finally:
            training.close()


def _chosen(name: str, hosts: int | None, vms: int | None) -> scenarios.Scenario:
    if not name:
        return cluster_of(hosts or 8, vms or 40)
    if hosts or vms:
        raise InvalidInput("a scenario brings its own hosts and vms", "leave --hosts and --vms out")
    return scenarios.load(scenarios.shipped().get(name, Path(name)))


def _made(scenario: scenarios.Scenario, token: str, activity: Activity) -> Training:
    count = sum(1 for _ in scenario.each_vm())
    output.note(f"{sum(1 for _ in scenario.each_host())} hosts start {count} vms ...")
    began = time.process_time()
    training = Training(scenario, token, activity)
    output.note(f"they run, after {time.process_time() - began:.0f} s of CPU")
    return training


async def _serve(
    training: Training, port: int, speed: float, security: Secured | None, token: str, console: int | None
) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        served = await stack.enter_async_context(serving(training, port, speed=speed, secured=security))
        _tell(served.url, token, security)
        if console is not None:
            door = await stack.enter_async_context(console_over(served, console, security))
            output.say(f"web    {door.url}  user {door.user}  password {door.password}")
        await stop.wait()
    if served.real_time.lost_s:
        output.note(f"this machine was too slow: {served.real_time.lost_s:.0f} simulated seconds were left out")
    for defect in (*training.world.defects, *training.world.loop.defects):
        output.note(f"defect: {defect}")


def _tell(url: str, token: str, security: Secured | None) -> None:
    output.say(f"url    {url}")
    output.say(f"token  {token}")
    if security is not None:
        output.say(f"ca     {security.ca_file}")
        output.say(f"try    zv context add sim --url {url} --token {token} --ca {security.ca_file}")
    else:
        output.say(f"try    curl -H 'Authorization: Bearer {token}' {url}/api/v1/hosts")
