"""zugvogel.services.disk_stops"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from zugvogel.ports.hypervisor import MachineStatus
from zugvogel.services.disk_stops import DiskStops


class Machine:
    def __init__(self) -> None:
        self.state = MachineStatus.IO_ERROR
        self.continued = 0
        self.is_frozen = False

    async def status(self) -> MachineStatus:
        return self.state

    async def cont(self) -> None:
        self.continued += 1


def world() -> tuple[DiskStops, Any, Machine, list[str], dict[str, bool]]:
    machine, told, usable = Machine(), list[str](), {"shared": False}
    guest = SimpleNamespace(
        name="web1", machine=machine, datastore="shared", is_paused=True, busy="", frozen_why=""
    )
    events = SimpleNamespace(emit=lambda kind, *_args, **_more: told.append(kind))
    vms: Any = SimpleNamespace(guests={"web1": guest}, events=events, host="host1")
    return DiskStops(vms, lambda name: (usable[name], "")), guest, machine, told, usable


async def test_a_vm_stopped_by_its_disk_is_told_once_and_waits_for_the_datastore() -> None:
    stops, guest, machine, told, _ = world()
    await stops.tick()
    await stops.tick()
    assert told == ["vm.frozen"]
    assert guest.frozen_why
    assert machine.continued == 0


async def test_it_goes_on_when_the_datastore_works_again() -> None:
    stops, guest, machine, told, usable = world()
    await stops.tick()
    usable["shared"] = True
    await stops.tick()
    assert machine.continued == 1
    guest.is_paused = False  # what QEMU's RESUME does
    await stops.tick()
    assert told == ["vm.frozen", "vm.thawed"]
    assert not guest.frozen_why


async def test_a_vm_that_stands_still_for_another_reason_or_is_busy_is_left_alone() -> None:
    stops, guest, machine, told, usable = world()
    usable["shared"] = True
    machine.state = MachineStatus.PAUSED
    await stops.tick()
    machine.state, guest.busy = MachineStatus.IO_ERROR, "migrating"
    await stops.tick()
    assert (machine.continued, told) == (0, [])


async def test_one_that_is_frozen_is_not_asked_and_not_told_as_thawed() -> None:
    stops, guest, machine, told, usable = world()
    usable["shared"] = True
    machine.is_frozen = True
    await stops.tick()
    guest.is_paused, guest.frozen_why = False, "the beats of its host fail"
    await stops.tick()
    machine.is_frozen = False
    await stops.tick()  # whoever froze it tells that it goes on
    assert (machine.continued, told) == (0, [])


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
