"""Which vms are to run and are not seen to, from the hosts' reports alone. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zugvogel.core.failover import SPEAKS, is_protected
from zugvogel.core.failover_facts import Stranded
from zugvogel.domain.ha import RestartPriority
from zugvogel.domain.host import HostStatus, Verdict, VmReport
from zugvogel.domain.vm import VmRecord, VmState


def missing(records: Sequence[VmRecord], statuses: Sequence[HostStatus]) -> list[VmRecord]:
    """Protected vms that no host whose report is fresh reports, or only one whose part in them is over: it waits
    for the heir, or what it keeps frozen is past (`_is_past`). What a stale report says counts for nothing, so the
    leases decide. Also those that a host that is dead on their datastore reported at an epoch which the registry
    has not: without a majority it never heard that they were started."""
    fresh = [s.report for s in statuses if s.verdict in SPEAKS and s.report is not None and not s.is_report_stale]
    seen: dict[str, VmReport] = {}
    for told in (vm for report in fresh for vm in report.vms if not vm.awaits_heir):
        if told.name not in seen or told.epoch > seen[told.name].epoch:
            seen[told.name] = told
    last = _last_told(statuses)
    return [
        record
        for record in records
        if ((vm := seen.get(record.definition.name)) is None or _is_past(vm, record, last))
        and (is_protected(record) or _ran_unrecorded(record, last.get(record.definition.name)))
    ]


def stranded(
    records: Mapping[str, VmRecord], statuses: Sequence[HostStatus], workers: Mapping[str, str]
) -> list[Stranded]:
    """Protected vms on hosts that are heard but lost the storage these lie on, but for what is past (`_is_past`).
    `workers`: vm -> what is under way for it."""
    found, last = [], _last_told(statuses)
    for status in statuses:
        if status.verdict is not Verdict.STORAGE_LOST or status.report is None:
            continue
        for vm in status.report.vms:
            record = records.get(vm.name)
            if record is None or _is_past(vm, record, last):
                continue
            if record.datastore in status.frozen_on and is_protected(record):
                silent_s = status.beat_ages_s.get(record.datastore, 0.0)
                found.append(Stranded(record, status.host.name, vm.epoch, silent_s, workers.get(vm.name, "")))
    return found


def silent_s(record: VmRecord, statuses: Sequence[HostStatus]) -> float:
    """For how long its last host has given no sign of life; 0: it lives, or is not known. The vm is down since
    then."""
    for status in statuses:
        if status.host.name == record.host and _is_dead(status, record.datastore):
            ages = (status.heartbeat_age_s, status.beat_ages_s.get(record.datastore))
            return min((age for age in ages if age is not None), default=0.0)
    return 0.0


def last_addresses(vm: str, statuses: Sequence[HostStatus]) -> tuple[str, ...]:
    """Of the vm, as the host told that reported it at the highest epoch; empty: none is known."""
    told = [seen for s in statuses if s.report is not None for seen in s.report.vms if seen.name == vm]
    return max(told, key=lambda seen: seen.epoch).addresses if told else ()


def _is_dead(status: HostStatus, datastore: str) -> bool:
    return status.verdict is Verdict.FAILED or datastore in status.dead_on


def _last_told(statuses: Sequence[HostStatus]) -> dict[str, tuple[int, HostStatus]]:
    """vm -> (epoch, host), as hosts last reported that are dead somewhere."""
    gone = [s for s in statuses if s.verdict is Verdict.FAILED or s.dead_on]
    return {vm.name: (vm.epoch, s) for s in gone if s.report is not None for vm in s.report.vms}


def _is_past(vm: VmReport, record: VmRecord, last: Mapping[str, tuple[int, HostStatus]]) -> bool:
    """Since the epoch by which a host keeps it frozen it was taken over: the host cannot know without its storage.
    Or the vm was deleted since, and made anew under its name."""
    if vm.uuid not in {"", record.definition.uuid}:
        return True
    told = last.get(vm.name)
    return vm.state is VmState.FROZEN and vm.epoch < max(record.epoch, told[0] if told is not None else 0)


def _ran_unrecorded(record: VmRecord, told: tuple[int, HostStatus] | None) -> bool:
    if told is None or record.definition.ha.restart_priority is RestartPriority.DISABLED:
        return False
    epoch, host = told
    return epoch > record.epoch and _is_dead(host, record.datastore)
