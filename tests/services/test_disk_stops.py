"""zugvogel.services.disk_stops"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from zugvogel.domain.lease import Holder, Lease, LeaseState
from zugvogel.errors import ProcedureFailed, Unreachable
from zugvogel.ports.hypervisor import MachineStatus
from zugvogel.services.disk_stops import PAUSE_S, DiskStops

ME = Holder(host="host1", boot_id="b1")
LOCKED = 'QEMU of web1 refused blockdev-reopen: Failed to get shared "write" lock'


class Machine:
    def __init__(self) -> None:
        self.state = MachineStatus.IO_ERROR
        self.did: list[str] = []
        self.is_frozen = False
        self.has_closed_images = False
        self.refusal: ProcedureFailed | None = None
        self.files: tuple[str, ...] = ("/srv/shared/web1/disk0",)
        self.keeps: bool | None = None

    @property
    def continued(self) -> int:
        return self.did.count("cont")

    async def status(self) -> MachineStatus:
        return self.state

    async def cont(self) -> None:
        self.did.append("cont")

    async def reopen_images(self, *, keeps_answered_writes: bool) -> tuple[str, ...]:
        self.did.append("reopen")
        self.keeps = keeps_answered_writes
        if self.refusal is not None:
            raise self.refusal
        self.has_closed_images = False
        return self.files


@dataclass
class World:
    machine: Machine = field(default_factory=Machine)
    told: list[str] = field(default_factory=list)
    usable: dict[str, bool] = field(default_factory=lambda: {"shared": False})
    now: float = 100.0
    holder: Holder = ME
    state: LeaseState = LeaseState.RUNNING

    def __post_init__(self) -> None:
        self.guest = SimpleNamespace(
            name="web1", machine=self.machine, datastore="shared", is_paused=True, busy="", frozen_why="", epoch=7
        )
        self.evidence: dict[str, Any] = {}
        store = SimpleNamespace(
            leases=SimpleNamespace(read=self._read), datastore=SimpleNamespace(name="shared", kind="NFS v4")
        )
        vms: Any = SimpleNamespace(
            guests={"web1": self.guest},
            events=SimpleNamespace(emit=self._emit),
            host="host1",
            me=ME,
            clock=SimpleNamespace(monotonic=lambda: self.now),
            mounted=lambda datastore: store,
        )
        self.stops = DiskStops(vms, lambda name: (self.usable[name], ""))

    def _emit(self, kind: str, *_args: Any, evidence: Any = None, **_more: Any) -> None:
        self.told.append(kind)
        self.evidence[kind] = evidence

    async def _read(self, vm: str) -> Lease:
        return Lease(vm=vm, epoch=7, holder=self.holder, state=self.state, written_at="2026-01-01T00:00:00Z")

    async def seconds(self, count: int) -> list[str]:
        """What is done with the machine in the next ticks; it stops again after each `cont`."""
        before = len(self.machine.did)
        for _ in range(count):
            await looked_at(self.stops)
            self.now += 1
        return self.machine.did[before:]


async def looked_at(stops: DiskStops) -> None:
    await stops.begin()
    await stops.looks.over()


def world() -> tuple[DiskStops, Any, Machine, list[str], dict[str, bool]]:
    made = World()
    return made.stops, made.guest, made.machine, made.told, made.usable


async def test_a_vm_stopped_by_its_disk_is_told_once_and_waits_for_the_datastore() -> None:
    stops, guest, machine, told, _ = world()
    await looked_at(stops)
    await looked_at(stops)
    assert told == ["vm.frozen"]
    assert guest.frozen_why
    assert machine.continued == 0


async def test_it_goes_on_when_the_datastore_works_again() -> None:
    stops, guest, machine, told, usable = world()
    await looked_at(stops)
    usable["shared"] = True
    await looked_at(stops)
    assert machine.continued == 1
    guest.is_paused = False  # what QEMU's RESUME does
    await looked_at(stops)
    assert told == ["vm.frozen", "vm.thawed"]
    assert not guest.frozen_why


async def test_a_vm_that_stands_still_for_another_reason_or_is_busy_is_left_alone() -> None:
    stops, guest, machine, told, usable = world()
    usable["shared"] = True
    machine.state = MachineStatus.PAUSED
    await looked_at(stops)
    machine.state, guest.busy = MachineStatus.IO_ERROR, "migrating"
    await looked_at(stops)
    assert (machine.did, told) == ([], [])


async def test_one_that_is_frozen_is_not_asked_and_not_told_as_thawed() -> None:
    stops, guest, machine, told, usable = world()
    usable["shared"] = True
    machine.is_frozen = True
    await looked_at(stops)
    guest.is_paused, guest.frozen_why = False, "the beats of its host fail"
    await looked_at(stops)
    machine.is_frozen = False
    await looked_at(stops)  # whoever froze it tells that it goes on
    assert (machine.did, told) == ([], [])


async def test_it_looks_beside_whatever_else_goes_on_and_only_where_there_is_something() -> None:
    stops, guest, _, told, _ = world()
    guest.is_paused = False
    await stops.begin()
    await stops.looks.over()
    assert told == []
    guest.is_paused = True
    await stops.begin()
    assert told == []
    await stops.looks.over()
    assert told == ["vm.frozen"]


async def test_one_whose_look_hangs_holds_up_no_other() -> None:
    w = World(usable={"shared": True})
    answers = asyncio.Event()

    async def hangs() -> MachineStatus:
        await answers.wait()
        return MachineStatus.IO_ERROR

    slow = SimpleNamespace(**{**vars(w.guest), "name": "web2", "machine": Machine()})
    slow.machine.status = hangs
    guests: Any = w.stops._vms.guests
    guests.update({"web2": slow, "web1": guests.pop("web1")})
    await w.stops.begin()
    for _ in range(20):
        await asyncio.sleep(0)
    assert w.machine.did == ["cont"]
    answers.set()
    await w.stops.looks.over()
    assert slow.machine.did == ["cont"]


async def test_the_images_of_one_that_stops_again_at_once_are_opened_anew_before_it_is_let_go() -> None:
    w = World(usable={"shared": True})
    assert await w.seconds(2) == ["cont", "reopen", "cont"]
    assert w.machine.keeps is True
    assert w.told == ["vm.frozen", "vm.images-reopened"]
    told = w.evidence["vm.images-reopened"]
    assert told == {"datastore": "shared", "epoch": 7, "files": ["/srv/shared/web1/disk0"], "took_s": 0.0}
    assert w.guest.busy == ""
    w.guest.is_paused = False
    await looked_at(w.stops)
    assert w.told[-1] == "vm.thawed"


async def test_one_that_ran_for_a_while_is_first_let_go_as_it_is() -> None:
    w = World(usable={"shared": True})
    assert await w.seconds(1) == ["cont"]
    w.now += 10
    assert await w.seconds(1) == ["cont"]


async def test_where_that_did_not_help_it_is_not_tried_each_second() -> None:
    """A disk with a bad sector, or no room: there is nothing to open anew, or it is of no use."""
    w = World(usable={"shared": True})
    w.machine.files = ()
    assert await w.seconds(5) == ["cont", "reopen", *["cont"] * 4]
    assert w.told == ["vm.frozen"]
    w.now += PAUSE_S
    assert await w.seconds(3) == ["cont", "reopen", "cont", "cont"]


async def test_one_whose_images_cannot_be_opened_anew_stays_frozen_and_that_is_told_once() -> None:
    w = World(usable={"shared": True})
    await w.seconds(1)
    w.machine.refusal, w.machine.has_closed_images = ProcedureFailed(LOCKED), True
    assert await w.seconds(3) == ["reopen"] * 3
    assert w.told == ["vm.frozen", "vm.images-not-reopened"]
    assert w.evidence["vm.images-not-reopened"]["cause"] == LOCKED
    assert "holds the lock" in w.guest.frozen_why
    assert w.guest.busy == ""
    w.machine.refusal = None
    assert await w.seconds(1) == ["reopen", "cont"]
    w.guest.is_paused = False
    await looked_at(w.stops)
    assert w.told[2:] == ["vm.images-reopened", "vm.thawed"]


async def test_one_whose_old_files_could_not_be_given_up_is_told_and_tried_as_it_is() -> None:
    w = World(usable={"shared": True})
    w.machine.refusal = ProcedureFailed("it cannot be flushed", "end it")
    assert await w.seconds(3) == ["cont", "reopen", "cont", "cont"]
    assert w.told == ["vm.frozen", "vm.images-not-reopened"]
    assert "cannot be flushed" in w.guest.frozen_why


async def test_an_attempt_that_an_earlier_agent_began_is_finished_before_anything_else() -> None:
    w = World(usable={"shared": True})
    w.machine.has_closed_images = True
    assert await w.seconds(1) == ["reopen", "cont"]


@pytest.mark.parametrize(
    ("holder", "state"),
    [(Holder(host="host2", boot_id="b2"), LeaseState.RUNNING), (ME, LeaseState.RELEASED)],
)
async def test_nothing_is_opened_unless_the_lease_is_this_hosts(holder: Holder, state: LeaseState) -> None:
    w = World(usable={"shared": True})
    await w.seconds(1)
    w.holder, w.state = holder, state
    assert await w.seconds(2) == []


async def test_a_reading_older_than_the_own_epoch_opens_nothing() -> None:
    w = World(usable={"shared": True})
    await w.seconds(1)
    w.guest.epoch = 8
    assert await w.seconds(2) == []


async def test_it_is_not_let_go_when_the_datastore_failed_meanwhile() -> None:
    w = World(usable={"shared": True})
    await w.seconds(1)

    async def reopen_images(*, keeps_answered_writes: bool) -> tuple[str, ...]:
        w.usable["shared"] = False
        return w.machine.files

    w.machine.reopen_images = reopen_images  # type: ignore[method-assign]
    assert await w.seconds(2) == []
    assert w.told == ["vm.frozen", "vm.images-reopened"]


async def test_one_that_is_frozen_or_ends_while_it_is_looked_at_is_free_again() -> None:
    w = World(usable={"shared": True})
    await w.seconds(1)

    async def reopen_images(*, keeps_answered_writes: bool) -> tuple[str, ...]:
        assert w.guest.busy
        w.machine.has_closed_images = True
        raise Unreachable("it is frozen")

    w.machine.reopen_images = reopen_images  # type: ignore[method-assign]
    assert await w.seconds(2) == []
    assert w.guest.busy == ""
