"""Room for failures: what must stay free so that the vms of failed hosts can be restarted (das.failoverlevel), and
what may still be started. By trying: each failure gets its plan (`core.failure_plan`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from itertools import count
from typing import TypeVar

from zugvogel.core import placement
from zugvogel.core.checks import GIB, MEMORY_OVERHEAD_BYTES
from zugvogel.core.failure_plan import (
    Load,
    free_bytes,
    hosts_told,
    protected_bytes,
    total_bytes,
    unmet_steps,
    with_vm,
)
from zugvogel.domain.ha import Capacity
from zugvogel.domain.host import HostStatus
from zugvogel.domain.vm import VmDefinition, VmRecord
from zugvogel.errors import Refused

MIB = 1 << 20
SMALLEST = 16 * MIB
TRIED_HOSTS = 4
"""Hosts that are looked at for one start, best first."""
PROBES, PROBES_OF_MANY, MANY = 8, 2, 32
"""Sizes that are tried below the greatest that there could be; of so many hosts each takes seconds."""

T = TypeVar("T")
Steps = Generator[None, None, T]
"""With thousands of vms the whole takes a second: others get their turn in between."""


def all_steps(steps: Steps[T]) -> T:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: T = end.value
            return found


def capacity(load: Load, level: int) -> Capacity:
    return all_steps(capacity_steps(load, level))


def capacity_steps(load: Load, level: int) -> Steps[Capacity]:
    """One failure a step. `level` 0 reserves nothing."""
    targets = load.targets()
    total = sum(total_bytes(s) for s in targets)
    used = total - sum(free_bytes(s) for s in targets)
    if level == 0 or not targets:
        why = "admission control is off (das.failoverlevel 0)" if targets else "no host can take vms"
        most = max((free_bytes(s) for s in targets), default=0)
        return Capacity(
            used_bytes=used,
            free_bytes=max(0, total - used),
            largest_bytes=_of_guest(most),
            is_met=level == 0,
            why=why,
        )
    left = _least_slack(load, targets, level)
    why = yield from unmet_steps(load, targets, level)
    free = max(0, left) if not why else 0
    largest = (yield from _largest(load, targets, level, free)) if free else 0
    return Capacity(
        used_bytes=used,
        reserved_bytes=max(0, total - used - free),
        free_bytes=free,
        largest_bytes=largest,
        is_met=not why,
        why=why or f"the vms of any {hosts_told(level)} can be restarted on the others",
    )


def admit_steps(load: Load, vm: VmRecord, hosts: Sequence[str], level: int, otherwise: str) -> Steps[str]:
    """The first of `hosts`, best first, on which `vm`, started there, takes no room that is kept for failures; of
    many only the first TRIED_HOSTS are looked at. One failure a step. Raises Refused, with the figures and how it
    is done `otherwise`, where none is."""
    if not level:
        return hosts[0]
    host, why = yield from _admitting(load, vm, hosts, level)
    if host:
        return host
    now = yield from capacity_steps(load, level)
    raise Refused(f"{_asked(vm, now)}: {_kept(now, level)}; {why}", f"free memory or add a host; or {otherwise}")


def _admitting(load: Load, vm: VmRecord, hosts: Sequence[str], level: int) -> Steps[tuple[str, str]]:
    """(host, why not the first one); host empty: none of them."""
    why = ""
    for host in hosts[:TRIED_HOSTS]:
        after = with_vm(load, vm, host)
        unmet = yield from unmet_steps(after, after.targets(), level)
        if not unmet:
            return host, why
        why = why or f"with {vm.definition.name} on {host} {unmet}"
    return "", why


def _asked(vm: VmRecord, now: Capacity) -> str:
    """What it has beside the most that may be had; both as one gives them with --memory."""
    name, size = vm.definition.name, vm.definition.memory_bytes
    most = f"{now.largest_bytes / GIB:.2f} GiB"
    if not now.largest_bytes:
        return f"{name} has {size / GIB:.2f} GiB of memory, and no vm may be started now"
    if size > now.largest_bytes:
        return f"{name} has {size / GIB:.2f} GiB of memory, and the largest vm that may be started now has {most}"
    return f"{name} may not be started there, though a vm of up to {most} of memory that is not bound to it may"


def _kept(now: Capacity, level: int) -> str:
    return (
        f"{now.used_bytes / GIB:.2f} GiB are in use, and {now.reserved_bytes / GIB:.2f} GiB are kept so that the "
        f"failure of {hosts_told(level)} can be borne (das.failoverlevel)"
    )


def _least_slack(load: Load, targets: Sequence[HostStatus], level: int) -> int:
    """What may still be started at most: free memory of all, less that of the `level` hosts whose failure takes
    most of it away (their own free memory, and what their vms need elsewhere)."""
    weights = sorted((free_bytes(s) + protected_bytes(load, s) for s in targets), reverse=True)
    return sum(free_bytes(s) for s in targets) - sum(weights[:level])


# the largest vm --------------------------------------------------------------------------------------------


def _largest(load: Load, targets: Sequence[HostStatus], level: int, free: int) -> Steps[int]:
    """Memory of the largest vm that may still be started: one so large was tried, and is admitted. It is bound to
    no network, host or neighbour, and lies where most hosts reach."""
    spare = sorted((free_bytes(s) for s in targets), reverse=True)[level]  # it must fit without the roomiest hosts
    least, most = 0, _of_guest(min(free, spare))
    if (yield from _is_admitted(load, targets, level, most)):
        return most
    for _ in range(PROBES if len(targets) <= MANY else PROBES_OF_MANY):
        size = (least + most) // 2 // MIB * MIB
        if (yield from _is_admitted(load, targets, level, size)):
            least = size
        else:
            most = size
    return least


def _is_admitted(load: Load, targets: Sequence[HostStatus], level: int, size: int) -> Steps[bool]:
    if size < SMALLEST:
        return False
    vm = _some_vm(load, targets, size)
    hosts = [c.host for c in placement.weigh(vm.definition, vm.datastore, (), targets) if c.is_fit]
    host, _ = yield from _admitting(load, vm, hosts, level)
    return bool(host)


def _some_vm(load: Load, targets: Sequence[HostStatus], size: int) -> VmRecord:
    """One that is not there yet."""
    reached = Counter(d.name for s in targets if s.report for d in s.report.datastores if d.is_usable)
    name = next(name for name in (f"new{number}" for number in count()) if name not in load.records)
    definition = VmDefinition(
        name=name, uuid="", memory_bytes=size, cpus=1, machine="pc-q35-7.2", cpu_model="x86-64-v2"
    )
    datastore = min(reached, key=lambda name: (-reached[name], name), default="none")
    return VmRecord(definition=definition, datastore=datastore)


def _of_guest(room: int) -> int:
    """Memory of the largest vm for which there is `room`, in whole MiB."""
    return max(0, room - MEMORY_OVERHEAD_BYTES) // MIB * MIB
