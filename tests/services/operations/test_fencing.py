"""zugvogel.services.operations.fencing"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.core.facts import status
from tests.fakes.registry import MemoryRegistry
from tests.services.test_tasks import FastClock
from zugvogel.domain.host import Host, HostStatus, Role, Verdict
from zugvogel.domain.requests import SetFence
from zugvogel.domain.task import Task
from zugvogel.errors import Conflict, DeadlineExceeded, InvalidInput, NotFound, Refused, Unreachable
from zugvogel.services.events import EventLog
from zugvogel.services.inventory import Inventory
from zugvogel.services.operations.fencing import FenceOperations
from zugvogel.services.operations.world import World
from zugvogel.services.tasks import TaskBoard

IPMI = SetFence(
    agent="fence_ipmilan", parameters={"ip": "192.0.2.13", "passwd": "one"}, secrets={"password": "s3cret"}
)


class Site:
    """host1 to host3; this agent is host1's. `answers`: what each primary's device says, or its error."""

    def __init__(self) -> None:
        clock = FastClock()
        self.registry = MemoryRegistry()
        self.inventory = Inventory(self.registry, clock, [])
        self.tasks = TaskBoard("host1", self.registry, clock)
        self.events = EventLog("host1", self.registry, clock)
        self.verdicts: dict[str, Verdict] = {}
        self.roles: dict[str, Role] = {}
        self.answers: dict[str, bool | Exception] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.world = World(
            me="host1", registry=self.registry, inventory=self.inventory, tasks=self.tasks, events=self.events,
            peers=self, clock=clock, vms=cast(Any, SimpleNamespace()), datastores=cast(Any, SimpleNamespace()),
            mounted=cast(Any, None), statuses=self.statuses,
        )  # fmt: skip
        self.operations = FenceOperations(self.world, self)

    async def begin(self) -> Site:
        for found in await self.statuses():
            await self.inventory.put(f"hosts/{found.host.name}", found.host)
        return self

    async def statuses(self) -> list[HostStatus]:
        found = [status(f"host{n}", n) for n in (1, 2, 3)]
        return [
            s.model_copy(
                update={
                    "verdict": self.verdicts.get(s.host.name, Verdict.LIVE),
                    "host": s.host.model_copy(update={"role": self.roles.get(s.host.name, Role.PRIMARY)}),
                }
            )
            for s in found
        ]

    async def call(
        self, host: Host, command: str, payload: dict[str, Any], *, timeout_s: float = 10.0
    ) -> dict[str, Any]:
        assert command == "fence.test"
        return {"is_on": self._answer(host.name, Host.model_validate(payload["host"]))}

    async def is_on(self, host: Host) -> bool:
        return self._answer("host1", host)

    async def power_off(self, host: Host) -> str:
        raise AssertionError("a test switches nothing")

    def _answer(self, primary: str, host: Host) -> bool:
        assert host.fence is not None
        self.asked.append((primary, host.fence.secrets))
        answer = self.answers.get(primary, True)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def report(self, task: Task) -> dict[str, Any]:
        while not task.state.is_final:
            task = await self.tasks.wait(task.id, task.version, 10.0)
        assert task.report is not None
        return task.report

    async def told(self) -> list[str]:
        return [event.kind for event in await self.events.list()]


async def test_it_is_kept_with_its_secrets_apart_and_the_rest_of_the_host_as_it_was() -> None:
    site = await Site().begin()
    before = site.inventory.host("host3")
    await site.operations.set_fence("host3", IPMI)
    after = site.inventory.host("host3")
    assert after.fence == await site.operations.fence_config("host3")
    assert after.fence is not None
    assert after.fence.parameters == {"ip": "192.0.2.13"}
    assert after.fence.secrets == {"passwd": "one", "password": "s3cret"}
    assert after.model_copy(update={"fence": None}) == before
    await site.operations.remove_fence("host3")
    await site.operations.remove_fence("host3")
    assert site.inventory.host("host3") == before
    [made, gone] = await site.events.list()
    assert (made.kind, gone.kind) == ("host.fence-configured", "host.fence-removed")
    assert "s3cret" not in made.model_dump_json()


async def test_what_proves_nothing_and_hosts_that_are_none_are_refused() -> None:
    site = await Site().begin()
    with pytest.raises(InvalidInput):
        await site.operations.set_fence("host3", IPMI.model_copy(update={"agent": "fence_kdump"}))
    with pytest.raises(NotFound):
        await site.operations.set_fence("host9", IPMI)
    assert await site.told() == []


async def test_a_change_by_somebody_else_meanwhile_is_kept() -> None:
    site = await Site().begin()
    put, crossed = site.registry.put, list[str]()

    async def crossing(key: str, value: bytes, *, revision: int | None = None) -> int:
        if not crossed:
            crossed.append(key)
            other = site.inventory.host("host3").model_copy(update={"failure_domain": "rack2"})
            await put(key, other.model_dump_json().encode())
            raise Conflict("crossed")
        return await put(key, value, revision=revision)

    site.registry.put = crossing  # type: ignore[method-assign]
    await site.operations.set_fence("host3", IPMI)
    host = site.inventory.host("host3")
    assert (host.failure_domain, host.fence is not None) == ("rack2", True)


async def test_every_primary_that_can_be_asked_tries_it() -> None:
    site = await Site().begin()
    await site.operations.set_fence("host3", IPMI)
    site.answers["host2"] = DeadlineExceeded("fence_ipmilan did not answer", "see the network")
    report = await site.report(await site.operations.test_fence("host3"))
    assert report["works"] is False
    assert report["by"]["host1"] == "it says on"
    assert "did not answer" in report["by"]["host2"]
    site.answers["host2"] = True
    assert (await site.report(await site.operations.test_fence("host3")))["works"] is True
    assert {primary for primary, _ in site.asked} == {"host1", "host2"}  # not the host itself
    assert site.asked[0][1]["password"] == "s3cret"


async def test_off_for_a_host_that_lives_is_another_machines_device() -> None:
    site = await Site().begin()
    await site.operations.set_fence("host3", IPMI)
    site.answers = {"host1": False, "host2": False}
    report = await site.report(await site.operations.test_fence("host3"))
    assert (report["works"], "another machine" in report["by"]["host1"]) == (False, True)
    site.verdicts["host3"] = Verdict.FAILED
    report = await site.report(await site.operations.test_fence("host3"))
    assert (report["works"], report["by"]["host1"]) == (True, "it says off")


async def test_without_a_device_or_without_a_primary_to_ask_there_is_nothing_to_try() -> None:
    site = await Site().begin()
    with pytest.raises(NotFound, match="no device"):
        await site.operations.test_fence("host1")
    await site.operations.set_fence("host1", IPMI)
    site.roles["host2"], site.verdicts["host3"] = Role.SECONDARY, Verdict.FAILED
    with pytest.raises(Refused, match="no primary but host1"):
        await site.operations.test_fence("host1")


async def test_a_primary_that_does_not_answer_is_told() -> None:
    site = await Site().begin()
    await site.operations.set_fence("host3", IPMI)
    site.answers["host2"] = Unreachable("host2 does not answer")
    report = await site.report(await site.operations.test_fence("host3"))
    assert report["by"]["host2"] == "host2 does not answer"
