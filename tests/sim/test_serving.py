"""A simulated cluster in real time, over HTTP."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from zugvogel.errors import InvalidInput, ProcedureFailed, Unreachable
from zugvogel.ports.backend import Backend
from zugvogel.sim.activity import Activity
from zugvogel.sim.real_time import RealTime
from zugvogel.sim.run import START_S
from zugvogel.sim.scenario import Action, HostSpec, Scenario, VmSpec
from zugvogel.sim.serving import Training, cluster_of, secured, serving, token_of

TOKEN = "test.secret"
SPEED = 20.0
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def training() -> Iterator[Training]:
    made = Training(cluster_of(3, 6), TOKEN)
    yield made
    made.close()


@asynccontextmanager
async def asked(training: Training) -> AsyncIterator[tuple[httpx.AsyncClient, RealTime]]:
    async with (
        serving(training, 0, speed=SPEED) as served,
        httpx.AsyncClient(base_url=f"{served.url}/api/v1", headers=BEARER, timeout=30, trust_env=False) as client,
    ):
        yield client, served.real_time


async def ended(client: httpx.AsyncClient, task: dict[str, Any]) -> dict[str, Any]:
    while task["state"] not in ("done", "failed", "cancelled"):
        answer = await client.get(f"/tasks/{task['id']}", params={"since": task["version"], "wait_s": 20})
        task = answer.json()
    return task


async def watched(stream: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    """What is told of vms."""
    topic = ""
    async for line in stream.aiter_lines():
        kind, _, rest = line.partition(": ")
        if kind == "event":
            topic = rest
        elif kind == "data" and topic == "vms":
            yield json.loads(rest)


async def until(backend: Backend, holds: Callable[[], bool]) -> None:
    """A turn of both loops after the other."""
    async with asyncio.timeout(20):
        while not holds():
            await backend.health()


async def test_it_shows_the_cluster_and_a_vm_moves(training: Training) -> None:
    async with asked(training) as (client, _):
        hosts, vms = (await client.get("/hosts")).json(), (await client.get("/vms")).json()
        assert [h["verdict"] for h in hosts] == ["live"] * 3
        assert {v["state"] for v in vms} == {"running"}
        assert len(vms) == 6
        vm = vms[0]
        target = next(h["name"] for h in hosts if h["name"] != vm["host"])
        begun = await client.post(f"/vms/{vm['name']}/migrate", json={"target": target})
        assert begun.status_code == 202
        assert (await ended(client, begun.json()))["state"] == "done"
        assert (await client.get(f"/vms/{vm['name']}")).json()["host"] == target
    assert training.world.defects == training.world.loop.defects == []


async def test_a_long_poll_answers_when_there_is_news(training: Training) -> None:
    async with asked(training) as (client, _):
        vm = (await client.get("/vms")).json()[0]
        task = (await client.post(f"/vms/{vm['name']}/migrate", json={})).json()
        versions = [task["version"]]
        while task["state"] == "running":
            params = {"since": task["version"], "wait_s": 60}
            task = (await client.get(f"/tasks/{task['id']}", params=params)).json()
            versions.append(task["version"])
        assert task["state"] == "done"
        assert len(versions) > 1
        assert versions == sorted(set(versions))


async def test_who_watches_is_told_of_a_vm_that_moves(training: Training) -> None:
    async with asked(training) as (client, _):
        vm = (await client.get("/vms")).json()[0]
        async with asyncio.timeout(30), client.stream("GET", "/watch", params={"topics": "vms"}) as stream:
            told = watched(stream)
            assert (await anext(told))["changed"][vm["name"]]["host"] == vm["host"]
            await client.post(f"/vms/{vm['name']}/migrate", json={})
            async for message in told:
                host = message["changed"].get(vm["name"], {}).get("host", vm["host"])
                if host != vm["host"]:
                    break


async def test_another_host_answers_for_one_that_died(training: Training) -> None:
    async with asked(training) as (client, real_time):
        real_time.world.hosts["host1"].power_off()
        assert (await client.get("/health")).json()["host"] == "host2"
        for name in ("host2", "host3"):
            real_time.world.hosts[name].power_off()
        answer = await client.get("/health")
        assert answer.status_code == 503
        assert "no host of the simulated cluster is up" in answer.json()["error"]["cause"]


async def test_the_console_keeps_its_token_whichever_host_answers(training: Training) -> None:
    async with serving(training, 0, speed=SPEED) as served, httpx.AsyncClient(trust_env=False) as client:
        bearer = {"Authorization": f"Bearer {served.backend.console_token()}"}
        for host in ("host1", "host2"):
            assert (await client.get(f"{served.url}/api/v1/health")).json()["host"] == host
            answer = await client.get(f"{served.url}/api/v1/session", headers=bearer)
            assert (answer.status_code, answer.json()["user"]) == (200, "console")
            served.real_time.world.hosts[host].power_off()


async def test_a_request_to_an_agent_that_ends_is_told_so(training: Training) -> None:
    async with serving(training, 0, speed=SPEED) as served:
        real_time, backend = served.real_time, served.backend
        agent = real_time.world.door()
        assert agent is not None
        waiting = asyncio.create_task(real_time.ask(agent, asyncio.sleep(1e6)))
        await until(backend, lambda: real_time.is_asked)
        real_time.world.hosts["host1"].kill_agent()
        with pytest.raises(Unreachable, match="the agent of host1 ended"):
            await waiting
        assert not real_time.is_asked


async def test_a_caller_who_goes_away_leaves_nothing_behind(training: Training) -> None:
    async with serving(training, 0, speed=SPEED) as served:
        real_time, backend = served.real_time, served.backend
        agent = real_time.world.door()
        assert agent is not None
        begun, ended = asyncio.Event(), asyncio.Event()

        async def work() -> None:
            begun.set()
            try:
                await asyncio.sleep(1e6)
            finally:
                ended.set()

        waiting = asyncio.create_task(real_time.ask(agent, work()))
        await until(backend, begun.is_set)
        waiting.cancel()
        await until(backend, ended.is_set)
        assert not real_time.is_asked


def test_who_asks_needs_the_token(training: Training) -> None:
    async def ask() -> int:
        async with serving(training, 0) as served, httpx.AsyncClient(trust_env=False) as client:
            wrong = {"Authorization": "Bearer test.wrong"}
            return (await client.get(f"{served.url}/api/v1/hosts", headers=wrong)).status_code

    assert asyncio.run(ask()) == 403


def test_tls_by_a_ca_of_its_own(training: Training) -> None:
    async def ask(found: Any) -> str:
        async with (
            serving(training, 0, secured=found) as served,
            httpx.AsyncClient(verify=ssl.create_default_context(cafile=found.ca_file), trust_env=False) as client,
        ):
            assert served.url.startswith("https://")
            return (await client.get(f"{served.url}/api/v1/ca")).text

    with secured() as found:
        assert asyncio.run(ask(found)) == found.ca_pem
    assert not found.ca_file.exists()


@pytest.mark.parametrize("text", ["", ".secret", "s.session", "a/b.c"])
def test_what_cannot_be_a_token(text: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be a token"):
        token_of(text)


def test_a_cluster_without_room_for_its_vms_is_told_of() -> None:
    small = Scenario(
        title="too small",
        horizon_s=1,
        hosts=(HostSpec(name="a", memory_mib=512), HostSpec(name="b")),
        vms=(VmSpec(name="v", memory_mib=1024, host="a"),),
    )
    with pytest.raises(ProcedureFailed, match="v of the scenario does not start"):
        Training(small, TOKEN)


def test_its_timeline_begins_when_its_vms_run() -> None:
    scenario = cluster_of(3, 3).model_copy(update={"timeline": (Action(at_s=5, do="power_off", host="host2"),)})
    training = Training(scenario, TOKEN)
    world = training.world
    world.run_until(world.loop.now + 4.9)
    assert world.hosts["host2"].is_powered
    world.run_until(world.loop.now + 0.2)
    assert not world.hosts["host2"].is_powered
    training.close()


def test_activity_moves_stops_and_starts_vms_and_loads_wander() -> None:
    training = Training(cluster_of(3, 6), TOKEN, Activity.BUSY)
    world = training.world
    host = world.hosts["host1"]
    loads = set()
    assert world.loop.now > START_S
    for _ in range(30):
        world.run_until(world.loop.now + 10)
        loads.add(world.load_of(host))
    assert {"vm.migrated", "vm.started", "vm.stopped"} <= {event.kind for _, event in world.events}
    assert len(loads) > 20
    training.close()
