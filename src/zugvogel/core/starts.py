"""Starts under way: hosts as they will be once what is begun there runs. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from zugvogel.core.checks import MEMORY_OVERHEAD_BYTES
from zugvogel.domain.host import HostReport, HostStatus, VmReport
from zugvogel.domain.vm import VmRecord, VmState


class Begun(NamedTuple):
    """A start that was decided on; whether its host has begun with it is not known yet."""

    record: VmRecord
    host: str


def as_begun(
    statuses: Sequence[HostStatus], records: Mapping[str, VmRecord], begun: Iterable[Begun] = ()
) -> list[HostStatus]:
    """`statuses` with the vms that their hosts are starting, and those of `begun`, counted as running there. Those
    a host starts are no part of its `reserved_bytes` and `reserved_cpus` then."""
    more: dict[str, list[VmRecord]] = defaultdict(list)
    for start in begun:
        more[start.host].append(start.record)
    return [_as_begun(status, records, more[status.host.name]) for status in statuses]


def is_seen(status: HostStatus, vm: str) -> bool:
    """Its host tells of it: it runs there, or is being started."""
    report = status.report
    return report is not None and (vm in report.starting or any(seen.name == vm for seen in report.vms))


def _as_begun(status: HostStatus, records: Mapping[str, VmRecord], more: Sequence[VmRecord]) -> HostStatus:
    report = status.report
    if report is None or not (report.starting or more):
        return status
    there = {seen.name for seen in report.vms}
    told = [records[name] for name in report.starting if name in records and name not in there]
    there |= set(report.starting)
    added = told + [record for record in more if record.definition.name not in there]
    return status.model_copy(update={"report": _with(report, told, added)})


def _with(report: HostReport, told: Sequence[VmRecord], added: Sequence[VmRecord]) -> HostReport:
    held = sum(r.definition.memory_bytes + MEMORY_OVERHEAD_BYTES for r in told)
    return report.model_copy(
        update={
            "vms": (*report.vms, *(as_running(record) for record in added)),
            "reserved_bytes": max(0, report.reserved_bytes - held),
            "reserved_cpus": max(0, report.reserved_cpus - sum(r.definition.cpus for r in told)),
            "starting": (),
        }
    )


def as_running(record: VmRecord) -> VmReport:
    """What its host would report of it."""
    d = record.definition
    return VmReport(
        name=d.name, state=VmState.RUNNING, epoch=record.epoch, memory_bytes=d.memory_bytes, cpus=d.cpus
    )
