"""zugvogel.services.local_vms: an agent that has just started looks first and then answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest

from tests.core.facts import definition
from zugvogel.domain.vm import VmDefinition
from zugvogel.errors import NotFound, Refused, Unreachable
from zugvogel.ports.hypervisor import MachineEvent
from zugvogel.services.local_vms import LOOKING, SETTLE_S, LocalVms
from zugvogel.services.vm_ends import VmEnds


class Clock:
    """`sleep` passes at once; `at` is what happens at which second."""

    def __init__(self) -> None:
        self.now, self.at = 0.0, dict[float, Callable[[], None]]()

    def monotonic(self) -> float:
        return self.now

    def now_iso(self) -> str:
        return "2026-01-01T00:00:00.000Z"

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        for when in [w for w in self.at if w <= self.now]:
            self.at.pop(when)()


class Guest:
    busy = ""


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def vms(clock: Clock) -> LocalVms:
    none: Any = None
    return LocalVms(
        host="host1",
        boot_id="1",
        hypervisor=none,
        network=none,
        inventory=none,
        mounted=none,
        events=none,
        clock=clock,
    )


def adopted(vms: LocalVms, busy: str = "") -> Callable[[], None]:
    def adopt() -> None:
        guest: Any = Guest()
        guest.busy = busy
        vms.guests["web"] = guest
        vms.expected_no_more("web")

    return adopt


async def test_a_request_waits_until_the_vm_is_in_care(vms: LocalVms, clock: Clock) -> None:
    clock.at = {1.0: lambda: vms.expect(["web", "db"]), 2.0: adopted(vms)}
    guest: object = await vms.settled_guest("web")
    assert guest is vms.guests["web"]
    assert 2.0 <= clock.now < 3.0


async def test_a_vm_that_is_not_here_is_told_as_soon_as_that_is_known(vms: LocalVms, clock: Clock) -> None:
    clock.at = {1.0: lambda: vms.expect(["db"])}
    with pytest.raises(NotFound, match="web is not running on host1"):
        await vms.settled_guest("web")
    assert clock.now < 2.0


async def test_what_is_being_done_with_it_is_told_and_not_waited_for(vms: LocalVms, clock: Clock) -> None:
    vms.expect([])
    adopted(vms, "migrating")()
    with pytest.raises(Refused, match="migrating"):
        await vms.settled_guest("web")
    assert clock.now == 0.0


async def test_a_suspend_that_was_cut_off_is_looked_at_first(vms: LocalVms, clock: Clock) -> None:
    vms.expect([])
    adopted(vms, LOOKING)()
    clock.at = {3.0: adopted(vms)}
    await vms.settled_guest("web")
    assert 3.0 <= clock.now < 4.0


async def test_a_look_that_does_not_end_is_told(vms: LocalVms, clock: Clock) -> None:
    vms.expect(["web"])
    with pytest.raises(Unreachable, match="has just started"):
        await vms.settled_guest("web")
    assert SETTLE_S <= clock.now < SETTLE_S + 1
    with pytest.raises(Unreachable):
        await vms.start("web")


# failures ---------------------------------------------------------------------------------------------------


class Machine:
    """Ends when it is killed."""

    vm = "web"

    def __init__(self) -> None:
        self.said = asyncio.Queue[MachineEvent]()

    async def events(self) -> AsyncIterator[MachineEvent]:
        while True:
            event = await self.said.get()
            yield event
            if event.name == "EXITED":
                return

    async def kill(self) -> None:
        self.said.put_nowait(MachineEvent("EXITED", {"why": "killed by signal 9 (SIGKILL)"}, 0.0))


class Ends:
    def __init__(self) -> None:
        self.released: list[tuple[bool, bool, str]] = []

    async def release_until_done(
        self,
        datastore: str,
        name: str,
        is_failure: bool,
        why: str,
        *,
        is_heir_excluded: bool,
        is_own_failure: bool,
    ) -> None:
        self.released.append((is_failure, is_failure and is_own_failure, why))


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        ("fail", (True, True, "its guest panicked")),
        ("kill", (False, False, "its power was cut by request")),
        ("give up", (True, False, "its host is isolated")),
        ("dies", (True, True, "its QEMU ended: killed by signal 9 (SIGKILL)")),
    ],
)
async def test_how_a_vm_ended_is_in_its_lease(vms: LocalVms, end: str, expected: tuple[bool, bool, str]) -> None:
    machine, ends = Machine(), Ends()
    vms.ends = cast(VmEnds, ends)
    guest = vms.admit(cast(Any, machine), definition(name="web"), "nfs1", 4)
    if end == "fail":
        await vms.fail("web", "its guest panicked")
    elif end == "kill":
        await vms.kill("web")
    elif end == "give up":
        await vms.kill("web", failure_why="its host is isolated")
    else:
        await machine.kill()
    assert guest.watcher is not None
    await guest.watcher
    assert ends.released == [expected]


async def test_a_busy_vm_is_not_failed_and_its_end_counts_as_before(vms: LocalVms) -> None:
    machine = Machine()
    guest = vms.admit(cast(Any, machine), definition(name="web"), "nfs1", 4)
    guest.busy = "migrating"
    with pytest.raises(Refused):
        await vms.fail("web", "its guest panicked")
    assert (guest.is_own_failure, guest.failure_why) == (False, "")
    assert guest.watcher is not None
    guest.watcher.cancel()


async def test_what_qemu_says_of_a_guest_is_passed_on(vms: LocalVms) -> None:
    machine, heard = Machine(), list[str]()
    vms.ends = cast(VmEnds, Ends())
    vms.on_event = lambda guest, event: heard.append(event.name)
    guest = vms.admit(cast(Any, machine), definition(name="web"), "nfs1", 4)
    for name in ("STOP", "GUEST_CRASHLOADED", "RESUME"):
        machine.said.put_nowait(MachineEvent(name, {}, 0.0))
    await machine.kill()
    assert guest.watcher is not None
    await guest.watcher
    assert heard == ["GUEST_CRASHLOADED"]


# room -----------------------------------------------------------------------------------------------------


async def test_room_that_is_held_counts_until_it_is_given_back(vms: LocalVms) -> None:
    def full(made: VmDefinition) -> None:
        raise Refused("no room")

    vms.expect([])
    vms.hold_room(definition(name="web"))
    assert [d.name for d in vms.starting()] == ["web"]
    with vms.being_started("web"):
        vms.take_room(definition(name="web", cpus=3))
        assert [d.cpus for d in vms.starting()] == [3]
    assert [d.name for d in vms.starting()] == ["web"]
    vms.give_room_back("web")
    vms.give_room_back("web")
    assert vms.starting() == []
    vms.reserve = full
    with pytest.raises(Refused):
        vms.hold_room(definition(name="db"))
    assert vms.starting() == []


async def test_vms_that_are_started_at_the_same_time_count_for_each_other(vms: LocalVms) -> None:
    web, db = definition(name="web"), definition(name="db")

    def reserve(made: VmDefinition) -> None:
        if any(other.name != made.name for other in vms.starting()):
            raise Refused("no room")

    vms.expect([])
    vms.reserve = reserve
    vms.take_room(db)  # asked for beside a start: it takes nothing
    assert vms.starting() == []
    with vms.being_started("web"), vms.being_started("db"):
        assert vms.starting() == []
        vms.take_room(web)
        vms.take_room(web)
        with pytest.raises(Refused):
            vms.take_room(db)
        assert vms.starting() == [web]
        vms.guests["web"] = cast(Any, Guest())
        assert vms.starting() == []  # it counts as a guest now
        del vms.guests["web"]
    assert vms.starting() == []
