"""zugvogel.services.ha.monitoring"""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from zugvogel.domain.ha import Monitoring, RestartPriority, VmPolicy
from zugvogel.errors import DeadlineExceeded, NotFound, ProcedureFailed, Unreachable
from zugvogel.ports.hypervisor import MachineEvent, MachineStatus
from zugvogel.services.ha.monitoring import VmMonitoring


def fake(**fields: Any) -> Any:
    return SimpleNamespace(**fields)


class Machine:
    """`agent`: True answers, False none has its port open, None says nothing."""

    def __init__(self) -> None:
        self.state = MachineStatus.RUNNING
        self.agent: bool | None = True
        self.count = 7
        self.is_frozen = False
        self.done: list[str] = []
        self.hangs = False
        self.refuses = False

    async def status(self) -> MachineStatus:
        if self.hangs:
            await asyncio.Event().wait()
        return self.state

    async def ping_guest(self, timeout_s: float) -> bool:
        if self.agent is None:
            raise DeadlineExceeded("silent")
        return self.agent

    async def io_count(self) -> int:
        return self.count

    async def reset(self) -> None:
        self.done.append("reset")

    async def cont(self) -> None:
        if self.refuses:
            raise ProcedureFailed("no")
        self.done.append("cont")
        self.state = MachineStatus.RUNNING


class World:
    """One host with one vm; `pass_time` is the only clock."""

    def __init__(self, level: Monitoring = Monitoring.GUEST) -> None:
        self.now = 1000.0
        self.settings: dict[str, Any] = {
            "das.enabled": True,
            "das.vmmonitoring.maxfailures": 3,
            "das.vmmonitoring.window": 3600,
            "das.vmmonitoring.failureinterval": 30,
            "das.vmmonitoring.iostatsinterval": 120,
        }
        self.policy = VmPolicy(monitoring=level)
        self.wanted = "running"
        self.told: list[tuple[str, str]] = []
        self.failed: list[tuple[str, str]] = []
        self.is_usable = True
        self.guests: dict[str, Any] = {}
        self.new_guest()
        inventory = fake(
            setting=self.settings.__getitem__, number=self.settings.__getitem__, vm=self.record, vms=self.records
        )
        events = fake(emit=self.emit)
        clock = fake(monotonic=lambda: self.now)
        self.vms = fake(
            guests=self.guests, inventory=inventory, events=events, clock=clock, host="host1", fail=self.fail
        )
        self.monitoring = VmMonitoring(self.vms, lambda _datastore: (self.is_usable, ""))

    def new_guest(self) -> None:
        self.machine = Machine()
        self.guest = fake(
            name="web1", machine=self.machine, datastore="shared", epoch=4, is_paused=False, busy="",
            frozen_why="", is_handed_over=False,
        )  # fmt: skip
        self.guests["web1"] = self.guest

    def record(self, name: str) -> Any:
        if not self.wanted:
            raise NotFound(name)
        return fake(definition=fake(name=name, ha=self.policy), wanted=self.wanted)

    def records(self) -> list[Any]:
        return [self.record("web1")] if self.wanted else []

    def emit(self, kind: str, subject: str, message: str, **more: Any) -> None:
        assert subject == "web1"
        self.told.append((kind, message))

    async def fail(self, name: str, why: str) -> None:
        self.failed.append((name, why))
        self.guests.pop(name)

    def stand_still(self, state: MachineStatus) -> None:
        self.machine.state, self.guest.is_paused = state, True

    async def pass_time(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += 1.0
            await self.monitoring.tick()
            for _ in range(5):
                await asyncio.sleep(0)
            if self.machine.done[-1:] == ["cont"]:
                self.guest.is_paused = False

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.told]


STANDSTILLS = [
    (MachineStatus.GUEST_PANICKED, "vm.panicked", "panicked"),
    (MachineStatus.INTERNAL_ERROR, "vm.crashed", "internal error"),
    (MachineStatus.WATCHDOG, "vm.watchdog-fired", "watchdog fired"),
]


@pytest.mark.parametrize(("state", "kind", "why"), STANDSTILLS)
async def test_a_vm_that_cannot_go_on_is_ended_once_with_its_cause(
    state: MachineStatus, kind: str, why: str
) -> None:
    world = World()
    world.stand_still(state)
    await world.pass_time(3)
    assert world.kinds == [kind]
    assert "not saved is lost" in world.told[0][1]
    [(name, cause)] = world.failed
    assert (name, why in cause) == ("web1", True)


@pytest.mark.parametrize(("state", "kind", "why"), STANDSTILLS)
async def test_without_high_availability_it_is_told_and_goes_on_as_without_monitoring(
    state: MachineStatus, kind: str, why: str
) -> None:
    world = World()
    world.settings["das.enabled"] = False
    world.stand_still(state)
    await world.pass_time(5)
    assert world.kinds == [kind]
    assert "high availability is not enabled" in world.told[0][1]
    assert world.failed == []
    assert world.machine.done == {"vm.panicked": ["cont"], "vm.watchdog-fired": ["reset", "cont"]}.get(kind, [])


async def test_each_panic_is_told_while_nothing_is_done_about_them() -> None:
    world = World()
    world.settings["das.enabled"] = False
    for _ in range(2):
        world.stand_still(MachineStatus.GUEST_PANICKED)
        await world.pass_time(2)
        world.machine.done.clear()
    assert world.kinds == ["vm.panicked"] * 2


async def test_one_that_is_not_let_go_on_is_tried_again_and_told_once() -> None:
    world = World()
    world.settings["das.enabled"] = False
    world.stand_still(MachineStatus.GUEST_PANICKED)
    world.machine.refuses = True
    await world.pass_time(3)
    world.machine.refuses = False
    await world.pass_time(2)
    assert (world.kinds, world.machine.done) == (["vm.panicked"], ["cont"])


@pytest.mark.parametrize(
    ("policy", "wanted"),
    [
        (VmPolicy(monitoring=Monitoring.OFF), "running"),
        (VmPolicy(restart_priority=RestartPriority.DISABLED), "running"),
        (VmPolicy(), "stopped"),
        (VmPolicy(), ""),
    ],
)
async def test_what_nobody_would_start_again_is_not_ended(policy: VmPolicy, wanted: str) -> None:
    world = World()
    world.policy, world.wanted = policy, wanted
    world.stand_still(MachineStatus.GUEST_PANICKED)
    await world.pass_time(2)
    assert (world.kinds, world.failed, world.machine.done) == (["vm.panicked"], [], ["cont"])


async def test_no_more_often_than_the_limit_within_its_window() -> None:
    world = World()
    for _ in range(4):
        world.new_guest()
        world.stand_still(MachineStatus.GUEST_PANICKED)
        await world.pass_time(2)
    assert len(world.failed) == 3
    assert "3 times" in world.told[-1][1]
    world.now += 3600.0
    world.new_guest()
    world.stand_still(MachineStatus.GUEST_PANICKED)
    await world.pass_time(2)
    assert len(world.failed) == 4


@pytest.mark.parametrize("state", [MachineStatus.PAUSED, MachineStatus.IO_ERROR, MachineStatus.POSTMIGRATE])
async def test_other_standstills_are_not_its_business(state: MachineStatus) -> None:
    world = World()
    world.stand_still(state)
    await world.pass_time(300)
    assert (world.told, world.failed, world.machine.done) == ([], [], [])


async def test_what_is_busy_frozen_or_without_storage_is_left_alone_until_it_is_not() -> None:
    world = World()
    world.stand_still(MachineStatus.GUEST_PANICKED)
    world.guest.busy = "migrating"
    await world.pass_time(2)
    world.guest.busy, world.machine.is_frozen = "", True
    await world.pass_time(2)
    world.machine.is_frozen, world.is_usable = False, False
    await world.pass_time(2)
    world.is_usable, world.guest.frozen_why = True, "its disk"
    await world.pass_time(2)
    assert (world.told, world.failed) == ([], [])
    world.guest.frozen_why = ""
    await world.pass_time(1)
    assert len(world.failed) == 1


async def test_a_vm_that_a_move_took_while_it_was_reset_is_not_let_go_on() -> None:
    world = World()
    world.settings["das.enabled"] = False
    world.stand_still(MachineStatus.WATCHDOG)

    async def reset() -> None:
        world.guest.busy = "migrating"

    world.machine.reset = reset  # type: ignore[method-assign]
    await world.pass_time(2)
    assert world.machine.done == []


async def test_a_qemu_that_does_not_answer_is_asked_once_and_holds_nobody_up() -> None:
    world = World()
    world.stand_still(MachineStatus.GUEST_PANICKED)
    hung, world.machine.hangs = world.guest, True
    await world.pass_time(3)
    world.new_guest()
    world.guest.name = "db1"
    world.guests.update({"web1": hung, "db1": world.guest})
    world.emit = lambda kind, subject, message, **more: world.told.append((kind, message))  # type: ignore[method-assign]
    world.vms.events.emit = world.emit
    world.stand_still(MachineStatus.GUEST_PANICKED)
    await world.pass_time(2)
    assert [name for name, _ in world.failed] == ["db1"]


# a silent guest --------------------------------------------------------------------------------------------


async def heard_world(level: Monitoring = Monitoring.GUEST) -> World:
    world = World(level)
    await world.pass_time(15)
    return world


async def test_a_guest_that_was_heard_and_is_silent_and_quiet_is_ended() -> None:
    world = await heard_world()
    world.machine.agent = None
    await world.pass_time(110)
    assert world.failed == []
    await world.pass_time(40)
    assert world.kinds == ["vm.guest-silent"]
    assert len(world.failed) == 1


async def test_one_that_uses_its_disk_or_network_is_not() -> None:
    world = await heard_world()
    world.machine.agent = None
    for _ in range(10):
        world.machine.count += 1
        await world.pass_time(100)
    assert (world.told, world.failed) == ([], [])


@pytest.mark.parametrize("level", [Monitoring.OFF, Monitoring.CRASH])
async def test_silence_counts_only_where_the_guest_is_monitored(level: Monitoring) -> None:
    world = await heard_world(level)
    world.machine.agent = None
    await world.pass_time(400)
    assert (world.told, world.failed) == ([], [])


async def test_a_level_that_is_set_while_the_guest_runs_counts_from_the_next_second_on() -> None:
    world = await heard_world(Monitoring.CRASH)
    world.policy = VmPolicy(monitoring=Monitoring.GUEST)
    await world.pass_time(20)
    world.machine.agent = None
    world.policy = VmPolicy(monitoring=Monitoring.OFF)
    await world.pass_time(400)
    assert (world.told, world.failed) == ([], [])
    world.machine.agent = True
    world.policy = VmPolicy(monitoring=Monitoring.GUEST)
    await world.pass_time(20)
    world.machine.agent = None
    await world.pass_time(400)
    assert world.kinds == ["vm.guest-silent"]


async def test_a_guest_without_an_agent_or_whose_agent_was_ended_is_never_missed() -> None:
    world = World()
    world.machine.agent = None
    await world.pass_time(400)
    world.machine.agent = True
    await world.pass_time(20)
    world.machine.agent = False
    await world.pass_time(20)
    world.machine.agent = None
    await world.pass_time(400)
    assert (world.told, world.failed) == ([], [])


async def test_a_sleeping_guest_is_not_missed() -> None:
    world = await heard_world()
    world.machine.agent, world.machine.state = None, MachineStatus.SUSPENDED
    await world.pass_time(400)
    assert (world.told, world.failed) == ([], [])


@pytest.mark.parametrize("hindrance", ["busy", "frozen", "storage", "host"])
async def test_time_in_which_it_could_not_answer_does_not_count(hindrance: str) -> None:
    world = await heard_world()
    world.machine.agent = None
    await world.pass_time(100)
    if hindrance == "busy":
        world.guest.busy = "migrating"
    world.machine.is_frozen = hindrance == "frozen"
    world.is_usable = hindrance != "storage"
    if hindrance == "host":
        world.now += 300.0
    else:
        await world.pass_time(300)
    world.guest.busy, world.machine.is_frozen, world.is_usable = "", False, True
    await world.pass_time(110)
    assert world.failed == []
    await world.pass_time(40)
    assert len(world.failed) == 1


async def test_a_silent_guest_is_told_once_and_again_after_it_was_heard() -> None:
    world = await heard_world()
    world.settings["das.enabled"] = False
    for _ in range(2):
        world.machine.agent = None
        await world.pass_time(400)
        world.machine.agent = True
        await world.pass_time(20)
    assert world.kinds == ["vm.guest-silent"] * 2
    assert world.machine.done == []


async def test_a_qemu_that_cannot_be_asked_says_nothing_of_its_guest() -> None:
    world = await heard_world()

    async def unreachable(timeout_s: float) -> bool:
        raise Unreachable("QMP broke off")

    world.machine.ping_guest = unreachable  # type: ignore[method-assign]
    await world.pass_time(400)
    assert (world.told, world.failed) == ([], [])


async def test_a_guest_that_saves_a_dump_is_told_and_left_to_it() -> None:
    world = World()
    world.monitoring.heard(world.guest, MachineEvent("GUEST_CRASHLOADED", {"action": "run"}, 1.0))
    world.monitoring.heard(world.guest, MachineEvent("RTC_CHANGE", {}, 1.0))
    assert world.kinds == ["vm.panicked"]
    assert world.failed == []
