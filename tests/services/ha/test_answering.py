"""zugvogel.services.ha.answering"""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from tests.core.facts import MAC, definition
from zugvogel.core.answering import PATIENCE_S
from zugvogel.domain.ha import StartOrder
from zugvogel.domain.network import Network
from zugvogel.domain.task import Severity
from zugvogel.errors import DeadlineExceeded, Unreachable
from zugvogel.services.ha.answering import TAG, GuestAnswers

A, B = "192.0.2.7", "192.0.2.8"


def fake(**fields: Any) -> Any:
    return SimpleNamespace(**fields)


class Machine:
    """`agent`: True answers, False none has its port open, None says nothing."""

    def __init__(self) -> None:
        self.tags: dict[str, Any] = {}
        self.agent: bool | None = False
        self.is_frozen = False
        self.is_gone = False
        self.pings = 0

    async def ping_guest(self, timeout_s: float) -> bool:
        self.pings += 1
        if self.is_gone:
            raise Unreachable("it has ended")
        if self.agent is None:
            raise DeadlineExceeded("silent")
        return self.agent

    async def set_tags(self, **tags: Any) -> None:
        if self.is_gone:
            raise Unreachable("it has ended")
        self.tags |= tags


class World:
    """Host h2 and one vm; `pass_time` is the only clock. `macs`: address -> who answers ARP probes of it."""

    def __init__(self, *, has_nic: bool = True) -> None:
        self.now = 1000.0
        self.told: list[tuple[str, str, dict[str, Any]]] = []
        self.learned: list[str] = []
        self.macs: dict[str, str] = {}
        self.probes = 0
        self.left: frozenset[str] | None = frozenset()
        self.guests: dict[str, Any] = {}
        self.guest = self.new_guest(has_nic)
        network = Network(name="lan", bridges={"*": "br0"})
        self.vms = fake(
            guests=self.guests, host="h2", clock=fake(monotonic=lambda: self.now), events=fake(emit=self.emit),
            inventory=fake(network=lambda name: network), not_in_care=lambda: self.left,
            network=fake(learned_addresses=lambda mac: tuple(self.learned), probe=self.probe),
        )  # fmt: skip
        self.answers = GuestAnswers(self.vms)

    def new_guest(self, has_nic: bool = True) -> Any:
        made = definition(name="web") if has_nic else definition(name="web", nics=())
        self.machine = Machine()
        self.guest = self.guests["web"] = fake(
            name="web", machine=self.machine, definition=made, epoch=5, busy="", frozen_why="", is_paused=False,
            is_handed_over=False,
        )  # fmt: skip
        return self.guest

    def emit(self, kind: str, subject: str, message: str, *, severity: Severity, evidence: dict[str, Any]) -> None:
        assert subject == "web"
        assert severity is (Severity.WARNING if kind == "vm.silent" else Severity.INFO)
        self.told.append((kind, message, evidence))

    async def probe(self, bridge: str, address: str, timeout_s: float) -> str | None:
        assert bridge == "br0"
        self.probes += 1
        return self.macs.get(address)

    async def begin(self, *, down_s: float | None = 16.0, addresses: tuple[str, ...] = ()) -> None:
        order = StartOrder(
            id="1", vm="web", datastore="ds", epoch=4, judge="h1", down_s=down_s, addresses=addresses
        )
        self.now += 2.0
        await self.answers.began(self.guest, order, self.now - 2.0)

    async def pass_time(self, seconds: float) -> None:
        for _ in range(int(seconds)):
            self.now += 1.0
            await self.answers.tick()
            for _ in range(20):
                await asyncio.sleep(0)

    async def known(self) -> str:
        answer = await self.answers.handlers()["ha.answer"]({"vm": "web"})
        return str(answer["told"])

    def restart_agent(self) -> None:
        self.answers.close()
        self.answers = GuestAnswers(self.vms)


async def test_a_guest_whose_agent_answers_is_told_once_with_the_time_since_the_failure() -> None:
    world = World()
    await world.begin()
    await world.pass_time(5)
    assert world.told == []
    assert "has not answered yet" in await world.known()
    world.machine.agent = True
    await world.pass_time(30)
    ((kind, told, evidence),) = world.told
    assert kind == "vm.answers"
    assert evidence == {
        "by": "guest agent",
        "address": "",
        "host": "h2",
        "epoch": 5,
        "since_failure_s": 24.0,
        "since_start_s": 6.0,
    }
    assert "24 s after it had failed" in told
    assert await world.known() == told
    pings = world.machine.pings
    await world.pass_time(60)
    assert world.machine.pings == pings


async def test_an_address_that_is_learned_anew_is_an_answer() -> None:
    world = World()
    world.learned = [A]
    await world.begin(addresses=(B,))
    await world.pass_time(20)
    assert world.told == []
    world.learned = [B, A]
    await world.pass_time(20)
    assert world.told == []
    world.learned = ["192.0.2.9", B, A]
    await world.pass_time(10)
    assert [(kind, evidence["address"]) for kind, _, evidence in world.told] == [("vm.answers", "192.0.2.9")]


@pytest.mark.parametrize(("mac", "is_answer"), [(MAC, True), ("52:54:00:99:99:99", False)])
async def test_an_address_it_had_is_an_answer_where_its_mac_answers(mac: str, is_answer: bool) -> None:
    world = World()
    await world.begin(addresses=(A,))
    world.macs[A] = mac
    await world.pass_time(5)
    assert world.probes > 0
    assert [kind for kind, *_ in world.told] == (["vm.answers"] if is_answer else [])


async def test_one_that_stays_silent_is_told_after_some_minutes_and_left_alone() -> None:
    world = World()
    await world.begin(addresses=(A,))
    await world.pass_time(PATIENCE_S - 10)
    assert world.told == []
    await world.pass_time(60)
    ((kind, told, evidence),) = world.told
    assert kind == "vm.silent"
    assert evidence["tried"] == (
        f"no guest agent has its port open; {A} does not answer ARP probes, and no other address was learned"
    )
    assert "zv vm console web" in told
    assert await world.known() == told
    assert world.machine.pings < 70
    await world.pass_time(700)
    assert len(world.told) == 1


async def test_an_agent_that_is_there_and_says_nothing_is_told() -> None:
    world = World(has_nic=False)
    world.machine.agent = None
    await world.begin()
    await world.pass_time(PATIENCE_S + 60)
    ((kind, _, evidence),) = world.told
    assert (kind, evidence["tried"]) == ("vm.silent", "its guest agent has its port open and says nothing")


async def test_of_a_vm_that_nothing_could_tell_of_no_event_is_told() -> None:
    world = World(has_nic=False)
    await world.begin()
    await world.pass_time(PATIENCE_S + 60)
    assert world.told == []
    assert "cannot be seen: it has no network card" in await world.known()


@pytest.mark.parametrize("why", ["busy", "frozen_why", "is_paused"])
async def test_the_time_in_which_it_cannot_answer_does_not_count(why: str) -> None:
    world = World()
    await world.begin()
    setattr(world.guest, why, "because")
    await world.pass_time(PATIENCE_S * 2)
    assert (world.told, world.machine.pings) == ([], 0)
    setattr(world.guest, why, "")
    world.machine.agent = True
    await world.pass_time(3)
    assert [kind for kind, *_ in world.told] == ["vm.answers"]


async def test_the_next_agent_goes_on() -> None:
    world = World()
    await world.begin()
    await world.pass_time(30)
    world.restart_agent()
    world.left = None
    guest = world.guests.pop("web")
    await world.pass_time(2)
    world.left = frozenset({"web"})
    await world.pass_time(2)
    world.left, world.guests["web"] = frozenset(), guest
    assert "has not answered yet" in await world.known()
    world.machine.agent = True
    await world.pass_time(3)
    ((kind, _, evidence),) = world.told
    assert (kind, evidence["since_failure_s"]) == ("vm.answers", 53.0)
    world.restart_agent()
    await world.pass_time(60)
    assert len(world.told) == 1
    assert "answers on h2" in await world.known()


async def test_a_vm_that_left_is_forgotten() -> None:
    world = World()
    await world.begin()
    await world.pass_time(3)
    world.machine.is_gone = True
    del world.guests["web"]
    await world.pass_time(3)
    assert await world.known() == ""
    world.new_guest()
    world.machine.agent = True
    await world.pass_time(60)
    assert (world.told, world.machine.pings, await world.known()) == ([], 0, "")


async def test_a_qemu_that_ends_while_it_is_looked_at_is_no_defect(caplog: pytest.LogCaptureFixture) -> None:
    world = World(has_nic=False)
    world.machine.is_gone = True
    await world.begin()
    await world.pass_time(5)
    assert world.told == []
    assert [r for r in caplog.records if r.exc_info] == []


async def test_a_tag_that_is_not_understood_is_left_alone() -> None:
    world = World()
    world.machine.tags[TAG] = {"runs_since": "yesterday"}
    await world.pass_time(5)
    assert await world.known() == ""
