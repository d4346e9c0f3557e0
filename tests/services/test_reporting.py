import asyncio
from collections.abc import Sequence
from typing import cast

from tests.services.liveness_world import CPU, ManualClock, Mount
from zugvogel.domain.host import DatastoreReport, HostFacts, VmReport
from zugvogel.domain.vm import VmState
from zugvogel.ports.storage import MountedDatastore
from zugvogel.services.reporting import Reporting


def vm(name: str) -> VmReport:
    return VmReport(name=name, state=VmState.RUNNING, epoch=1, memory_bytes=1, cpus=1)


async def test_the_report_holds_what_is_known_and_a_hung_datastore_delays_nothing() -> None:
    mounts = [Mount("a", {}), Mount("b", {}), Mount("c", {})]
    mounts[1].fault, mounts[2].fault = "hang", "error"
    starting = ["web3"]

    async def facts() -> HostFacts:
        return HostFacts(cpu=CPU, cores=2, memory_total_bytes=1)

    reporting = Reporting(
        "h1", "boot", ManualClock(), facts=facts, vms=lambda: [vm("web2"), vm("web1")],
        datastores=lambda: cast(Sequence[MountedDatastore], mounts),
        usable=lambda name: (name != "b", "" if name != "b" else "it hangs"), reserved=lambda: (64, 2),
        starting=lambda: tuple(starting),
    )  # fmt: skip
    assert reporting.current() is None
    await reporting.tick()
    await asyncio.sleep(0)
    report = reporting.current()
    assert report is not None
    assert report.starting == ("web3",)
    starting.clear()
    report = reporting.current()
    assert report is not None
    assert report.starting == ()
    assert [v.name for v in report.vms] == ["web1", "web2"]
    assert (report.reserved_bytes, report.reserved_cpus) == (64, 2)
    assert report.datastores == (
        DatastoreReport(name="a", is_usable=True, fs_type="nfs4", total_bytes=2**30),
        DatastoreReport(name="b", is_usable=False, why="it hangs"),
        DatastoreReport(name="c", is_usable=False, why="the datastore is gone"),
    )
    mounts[2].fault = ""
    await reporting.tick()
    await asyncio.sleep(0)
    report = reporting.current()
    assert report is not None
    assert report.datastores[2].is_usable
