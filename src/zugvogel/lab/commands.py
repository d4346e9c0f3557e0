"""`zv lab ...`: the cluster on one machine."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from ipaddress import IPv4Address
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from zugvogel.errors import InvalidInput
from zugvogel.lab import api_calls, client, door, host, overrides, preconditions, storage, switch
from zugvogel.lab.down import lab_down
from zugvogel.lab.layout import LabState, Layout
from zugvogel.lab.ping import PingResult, ping_from_client
from zugvogel.lab.status import lab_status
from zugvogel.lab.up import Wish, lab_up

app = typer.Typer(no_args_is_help=True, help="The cluster on one machine: real QEMU, real failures. Needs root.")
_PASS_THROUGH = {"allow_interspersed_args": False, "ignore_unknown_options": True}

HostArgument = Annotated[str, typer.Argument(metavar="HOST")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON value on standard output.")]
CommandArgument = Annotated[list[str], typer.Argument(metavar="-- COMMAND...")]


class OnOff(StrEnum):
    ON = "on"
    OFF = "off"


class Link(StrEnum):
    CUT = "cut"
    HEAL = "heal"


class Path(StrEnum):
    CUT = "cut"
    HANG = "hang"
    HEAL = "heal"


class AgentAction(StrEnum):
    KILL = "kill"
    START = "start"
    HOLD = "hold"


@contextmanager
def _changing() -> Iterator[tuple[Layout, LabState]]:
    """The lab, for one command alone; its state is saved afterwards."""
    preconditions.require_root()
    layout = Layout.from_environment()
    layout.load()  # no lab: nothing to lock
    with preconditions.exclusively(layout, wait_s=30):
        state = layout.load()
        yield layout, state
        layout.save(state)


def _say(text: str) -> None:
    Console(stderr=True, highlight=False).print(text)


def _progress(*, is_quiet: bool) -> Callable[[str], None]:
    begin = time.monotonic()
    return lambda text: None if is_quiet else _say(f"[dim]{time.monotonic() - begin:5.1f} s[/dim]  {text}")


@app.command("up")
def up(
    hosts: Annotated[int, typer.Option(help="How many hosts.")] = 3,
    link_mbit: Annotated[int, typer.Option(help="Shape every host's link to this rate, both ways.")] = 0,
    cores: Annotated[int, typer.Option(help="Cores each host claims; 0: the machine's.")] = 0,
    memory: Annotated[str, typer.Option(help="Memory each host claims (16G); empty: the machine's.")] = "",
    as_json: JsonOption = False,
    no_cluster: Annotated[bool, typer.Option("--no-cluster", hidden=True)] = False,
) -> None:
    """Build the lab; returns when every agent is live, with the CLI context `lab` set."""
    layout = Layout.from_environment()
    wish = Wish(hosts, link_mbit, cores, overrides.parse_size(memory) if memory else 0, not no_cluster)
    begin = time.monotonic()
    state = lab_up(layout, wish, _progress(is_quiet=as_json))
    seconds = time.monotonic() - begin
    if as_json:
        print(json.dumps({**lab_status(layout), "seconds": round(seconds, 2)}))
    else:
        _say(f"Lab of {len(state.hosts)} hosts ready after {seconds:.1f} s. Next: zv host list")


@app.command("down")
def down(as_json: JsonOption = False) -> None:
    """Remove the lab and everything it left, its vms included."""
    found = lab_down(Layout.from_environment(), _progress(is_quiet=as_json))
    if as_json:
        print(json.dumps({"removed": found}))
    else:
        _say("The lab is gone." if found else "There was no lab.")


@app.command("status")
def status(as_json: JsonOption = False) -> None:
    """Power, agent, network and storage of every host, as the kernel sees them."""
    preconditions.require_root()
    found = lab_status(Layout.from_environment())
    if as_json:
        print(json.dumps(found))
        return
    columns = ("name", "address", "power", "agent", "network", "partition", "storage", "link_mbit")
    table = Table(*columns, box=None, header_style="bold")
    for row in found["hosts"]:
        table.add_row(*("-" if row[c] is None else str(row[c]) for c in columns))
    Console(highlight=False).print(table)


@app.command("console")
def console(as_json: JsonOption = False) -> None:
    """Where the web console is to be found from this machine, and as whom."""
    preconditions.require_root()
    found = door.found_door(Layout.from_environment())
    door.wait_until_open(found)
    if as_json:
        print(json.dumps(asdict(found)))
        return
    _say(f"[bold]{found.url}[/]  user [bold]{found.user}[/]  password [bold]{found.password}[/]")
    _say("[dim]The browser warns once: the certificate is of the lab's own CA. From another machine first:[/dim]")
    port = found.url.rstrip("/").rpartition(":")[2]
    _say(f"[dim]ssh -L {port}:127.0.0.1:{port} THIS-MACHINE[/dim]")


@app.command("power")
def power(name: HostArgument, to: OnOff) -> None:
    """Pull the plug of a host, or switch it on again."""
    with _changing() as (layout, state):
        (host.power_on if to is OnOff.ON else host.power_off)(layout, state.host(name))


@app.command("hang")
def hang(name: HostArgument) -> None:
    """Stop every process of a host where it stands."""
    with _changing() as (layout, state):
        _say(f"{host.hang(layout, state.host(name).name)} processes of {name} hang")


@app.command("resume")
def resume(name: HostArgument) -> None:
    """Let a hung host go on."""
    with _changing() as (layout, state):
        _say(f"{host.resume(layout, state.host(name).name)} processes of {name} go on")


@app.command("network")
def network(name: HostArgument, to: Link) -> None:
    """Pull a host's network cable, or plug it in again."""
    with _changing() as (layout, state):
        switch.set_cut(layout, state.host(name), is_cut=to is Link.CUT)


@app.command("storage")
def storage_path(name: HostArgument, to: Path) -> None:
    """Let a host's path to the datastore fail (cut), stall (hang) or work again (heal)."""
    with _changing() as (layout, state):
        actions = {Path.CUT: storage.cut, Path.HANG: storage.hang, Path.HEAL: storage.heal}
        actions[to](layout, state.host(name).name)


@app.command("partition")
def partition(groups: Annotated[list[str], typer.Argument(metavar="A,B C,D")]) -> None:
    """Split the switch: each group hears only itself. Gateway, client and hosts not named stay with the first."""
    with _changing() as (layout, state):
        if len(groups) < 2:
            raise InvalidInput("a partition needs two groups or more", "write for example: host1,host2 host3")
        switch.partition(layout, state, [group.split(",") for group in groups])


@app.command("heal")
def heal() -> None:
    """End all partitions and plug in all network cables."""
    with _changing() as (layout, state):
        switch.heal(layout, state)


@app.command("agent")
def agent(name: HostArgument, to: AgentAction) -> None:
    """Kill a host's agent (it comes back after a second), hold it down, or start it again."""
    actions = {
        AgentAction.KILL: host.kill_agent,
        AgentAction.HOLD: host.hold_agent,
        AgentAction.START: host.start_agent,
    }
    with _changing() as (layout, state):
        actions[to](layout, state.host(name).name)


@app.command("exec", context_settings=_PASS_THROUGH)
def execute(name: HostArgument, command: CommandArgument) -> None:
    """Run a command on a host, with its namespaces and mounts; exits as the command does."""
    preconditions.require_root()
    layout = Layout.from_environment()
    _become(layout, host.command(layout, layout.load().host(name).name, _without_dashes(command)))


@app.command("client", context_settings=_PASS_THROUGH)
def run_as_client(command: CommandArgument) -> None:
    """Run a command at the client's place on the network; exits as the command does."""
    preconditions.require_root()
    layout = Layout.from_environment()
    layout.load()
    _become(layout, client.command(layout, _without_dashes(command)))


def _without_dashes(command: list[str]) -> list[str]:
    return command[1:] if command[:1] == ["--"] else command


def _become(layout: Layout, command: list[str]) -> NoReturn:
    """In place of this process, so that signals and the terminal are the command's own."""
    os.execvpe(command[0], command, layout.environment)


@app.command("ping")
def ping(
    vm: Annotated[str, typer.Argument(metavar="VM", help="A vm's name, or an IPv4 address.")],
    interval_ms: Annotated[float, typer.Option(min=1, help="Time between two requests.")] = 1000,
    seconds: Annotated[float, typer.Option(min=0.1, help="For how long.")] = 10,
    as_json: JsonOption = False,
) -> None:
    """Ping a vm from the client and report the longest gap. Ctrl-C ends it early, with the report."""
    preconditions.require_root()
    layout = Layout.from_environment()
    address = _address(layout, vm)
    stops: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: stops.append(number))
    result = ping_from_client(
        layout,
        address,
        interval_ms=interval_ms,
        seconds=seconds,
        on_gap=lambda at_s, gap_ms: None if as_json else _say(f"at {at_s:7.2f} s: no answer for {gap_ms:.0f} ms"),
        should_stop=lambda: bool(stops),
    )
    print(json.dumps({"vm": vm, **result.as_dict()}) if as_json else _in_words(vm, result))


def _address(layout: Layout, vm: str) -> str:
    try:
        return str(IPv4Address(vm))
    except ValueError:
        return api_calls.vm_address(layout, vm)


def _in_words(vm: str, result: PingResult) -> str:
    facts = result.as_dict()
    return (
        f"{vm} ({result.address}): {result.sent} sent, {result.lost} lost, longest gap {facts['max_gap_ms']} ms, "
        f"median round trip {facts['rtt_median_ms']} ms"
    )


@app.command("host-set")
def host_set(
    name: HostArgument,
    cores: Annotated[int | None, typer.Option(help="Claimed cores; 0: measured.")] = None,
    memory: Annotated[str | None, typer.Option(help="Claimed memory (8G); 0: measured.")] = None,
    link_mbit: Annotated[int | None, typer.Option(help="Link speed, shaped and claimed; 0: unshaped.")] = None,
    vlan: Annotated[list[str] | None, typer.Option(help="NETWORK=ID: VLAN the host claims to have.")] = None,
    cpu_vendor: Annotated[str | None, typer.Option(help="Claimed vendor (AuthenticAMD); empty: measured.")] = None,
    cpu_family: Annotated[int | None, typer.Option(help="Claimed family; 0: measured.")] = None,
    cpu_model: Annotated[int | None, typer.Option(help="Claimed model; 0: measured.")] = None,
    cpu_stepping: Annotated[int | None, typer.Option(help="Claimed stepping; 0: measured.")] = None,
    cpu_flags: Annotated[
        str | None, typer.Option(help="All claimed flags, comma-separated; empty: measured.")
    ] = None,
    cpu_without: Annotated[
        str | None, typer.Option(help="Flags taken away, comma-separated; empty: none.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Change what a host claims to be, so that refusals can be tried; the cluster sees it within 5 seconds."""
    cpu = {"vendor": cpu_vendor, "family": cpu_family, "model": cpu_model, "stepping": cpu_stepping}
    cpu_changes: dict[str, Any] = {key: value or None for key, value in cpu.items() if value is not None}
    for key, flags in (("flags", cpu_flags), ("without_flags", cpu_without)):
        if flags is not None:
            cpu_changes[key] = sorted(filter(None, flags.split(","))) or None
    changes: dict[str, Any] = {"cpu": cpu_changes, "vlans": overrides.parse_vlans(vlan or [])}
    if cores is not None:
        changes["cores"] = cores or None
    if memory is not None:
        changes["memory_bytes"] = None if memory == "0" else overrides.parse_size(memory)
    if link_mbit is not None:
        changes["link_mbit"] = link_mbit or None
    with _changing() as (layout, state):
        lab_host = state.host(name)
        now = overrides.write(layout, name, changes)
        if link_mbit is not None:
            lab_host.link_mbit = link_mbit
            if host.init_pid(layout, name) is not None:
                switch.shape(layout, lab_host)
    if as_json:
        print(json.dumps(now))
    else:
        _say(f"{name} claims: {json.dumps(now)}")
