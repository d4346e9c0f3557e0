"""Clusters for tests of admission and plans: hosts h1, h2 ... with vms that need whole GiB, overhead included."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import strategies as st

from tests.core.facts import GIB, definition, status
from zugvogel.core.checks import MEMORY_OVERHEAD_BYTES
from zugvogel.core.failure_plan import Load
from zugvogel.domain.ha import RestartPriority, VmPolicy
from zugvogel.domain.host import HostStatus, VmReport
from zugvogel.domain.vm import VmRecord, VmState


def record(name: str, gib: float = 2, priority: str = "medium", group: str = "") -> VmRecord:
    policy = VmPolicy(restart_priority=RestartPriority(priority), anti_affinity=group)
    size = int(gib * GIB) - MEMORY_OVERHEAD_BYTES
    made = definition(name=name, memory_bytes=size, cpus=1, nics=(), ha=policy)
    return VmRecord(definition=made, datastore="nfs1", wanted="running", observed=VmState.RUNNING)


def host(name: str, gib: float, *vms: VmRecord) -> HostStatus:
    reports = tuple(
        VmReport(
            name=v.definition.name,
            state=VmState.RUNNING,
            epoch=1,
            memory_bytes=v.definition.memory_bytes,
            cpus=v.definition.cpus,
        )
        for v in vms
    )
    return status(name, int(name[1:]), vms=reports, memory_total_bytes=int(gib * GIB), cores=64)


def load(vms: dict[str, list[VmRecord]], sizes: dict[str, float]) -> Load:
    statuses = [host(name, gib, *vms.get(name, [])) for name, gib in sizes.items()]
    return Load(statuses, {v.definition.name: v for some in vms.values() for v in some})


SIZES = st.lists(st.integers(1, 24), min_size=2, max_size=6)
VMS = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.sampled_from([0.25, 0.5, 1, 2, 3, 5, 8]),
        st.sampled_from(list(RestartPriority)),
        st.sampled_from(["", "", "", "g"]),
    ),
    max_size=16,
)


def some_load(sizes: list[int], vms: list[tuple[int, float, RestartPriority, str]]) -> Load:
    placed: dict[str, list[VmRecord]] = defaultdict(list)
    for number, (at, gib, priority, group) in enumerate(vms):
        placed[f"h{at % len(sizes) + 1}"].append(record(f"v{number}", gib, priority, group))
    return load(placed, {f"h{i + 1}": gib for i, gib in enumerate(sizes)})
