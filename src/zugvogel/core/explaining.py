"""Why a host is judged as it is, what holds for a vm, and what follows from it: for people (`zv ha explain`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from zugvogel.core.death_proof import left_in_cache
from zugvogel.core.verdicts import FROZEN_AFTER, BeatEvidence, HostEvidence
from zugvogel.domain.ha import Explanation, IsolationResponse, RestartPriority
from zugvogel.domain.host import Host, HostStatus, Verdict
from zugvogel.domain.lease import Lease, LeaseState
from zugvogel.domain.vm import VmRecord

_SUSPENDS = "memory saved to the datastore, then resumed elsewhere with it; powered off if it cannot be saved"
_RESPONSES = {
    IsolationResponse.LEAVE: "left running",
    IsolationResponse.SHUTDOWN: "shut down, then restarted elsewhere",
    IsolationResponse.POWEROFF: "powered off, then restarted elsewhere",
    IsolationResponse.SUSPEND: _SUSPENDS,
}


@dataclass(frozen=True, slots=True)
class HaSettings:
    """`apd_timeout_s` 0: for ever. `response`: das.isolationresponse. `kept_on`: datastore -> why no vm that is
    frozen there is given up (`core.death_proof.nothing_given_up`); of the others they are."""

    is_enabled: bool = False
    apd_timeout_s: int = 140
    response: IsolationResponse = IsolationResponse.LEAVE
    kept_on: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HostCase:
    """`evidence` None: `host` is the judge itself, whose own beats are `own_ages_s` old (None: none yet).
    `frozen_on`, `dead_on`: as in `core.verdicts.Judgement`."""

    host: Host
    judge: str
    verdict: Verdict
    why: str
    evidence: HostEvidence | None
    own_ages_s: Mapping[str, float | None] = field(default_factory=dict)
    is_active_primary: bool = False
    frozen_on: tuple[str, ...] = ()
    dead_on: tuple[str, ...] = ()


# hosts -------------------------------------------------------------------------------------------------


def explain_host(case: HostCase, settings: HaSettings) -> Explanation:
    lines = [f"it is a {case.host.role}" + (", in maintenance" if case.host.is_in_maintenance else "")]
    if case.is_active_primary:
        lines.append("it is the active primary: it judges hosts and starts failover")
    lines += _own(case.own_ages_s) if case.evidence is None else _lines(case.evidence)
    lines.append(f"high availability is {'enabled' if settings.is_enabled else 'disabled'}")
    return Explanation(
        subject=case.host.name,
        kind="host",
        judge=case.judge,
        judgement=f"{case.host.name} is {case.verdict}: {case.why}",
        evidence=tuple(lines),
        follows=_host_follows(case, settings),
    )


def _own(ages_s: Mapping[str, float | None]) -> list[str]:
    told = {n: "it has not written a beat yet" if a is None else _ago(a) for n, a in sorted(ages_s.items())}
    return ["it judges itself", *(f"own beat on {name}: {text}" for name, text in told.items())]


def _lines(evidence: HostEvidence) -> list[str]:
    t = evidence.detection_time_s
    if evidence.was_heard:
        heard = f"heartbeat: last heard {_ago(evidence.silence_s)}"
    else:
        heard = f"heartbeat: not heard since the judge began to listen, {_ago(evidence.silence_s)}"
    beats = [f"beat on {b.datastore}: {_beat(b)}" for b in evidence.beats]
    if evidence.heard_by:
        hearers = f"heard by: {', '.join(evidence.heard_by)}"
    elif evidence.silence_s < t:
        hearers = "heard by: not asked while the judge itself has heard it lately"
    else:
        hearers = "heard by: no host says that it hears it"
    isolated = [b.datastore for b in evidence.beats if b.is_isolated]
    guarded = [b.datastore for b in evidence.beats if b.is_guarded]
    guard = f"yes, on {', '.join(guarded)}" if guarded else "no"
    flag = f"yes, on {', '.join(isolated)}" if isolated else "no"
    return [
        heard,
        *(beats or ["beat: there is no datastore to beat on"]),
        hearers,
        f"says that it is isolated: {flag}",
        f"says that a guard freezes its vms should its beats end: {guard}",
        f"detection time: {t:g} s (the greatest of the judge's and those in its beats); frozen at "
        f"{FROZEN_AFTER * t:g} s without a beat",
    ]


def _beat(beat: BeatEvidence) -> str:
    if not beat.is_readable:
        return "the judge cannot read it now, so it proves nothing"
    if beat.still_s is None:
        return "never seen by the judge"
    if not beat.is_same_place:
        return "older than what its heartbeat told, so the two see different file systems and it proves nothing"
    return f"stood still for {beat.still_s:.1f} s while the judge could read"


def _host_follows(case: HostCase, settings: HaSettings) -> str:
    if case.verdict in {Verdict.FAILED, Verdict.ISOLATED} and not settings.is_enabled:
        return "nothing: high availability is disabled (zv ha enable)"
    match case.verdict:
        case Verdict.LIVE:
            return "nothing"
        case Verdict.MAINTENANCE:
            return "no vm is placed on it, and it is no active primary"
        case Verdict.PARTITIONED:
            told = "nothing is restarted, since it may run its vms; look at its network"
            return told + _lost_follows(case, settings)
        case Verdict.ISOLATED:
            told = "each of its vms gets its isolation response once the active primary has accepted that"
            return told + _lost_follows(case, settings)
        case Verdict.FAILED:
            return (
                "its vms that are protected are restarted on other hosts, by priority, as soon as what the "
                "datastore asks for as a proof has happened"
            )
        case Verdict.STORAGE_LOST:
            return _storage_follows(case.frozen_on, settings)


def _lost_follows(case: HostCase, settings: HaSettings) -> str:
    """Of a host that is cut off and has lost storage as well."""
    names = ", ".join(case.dead_on)
    if not names or not settings.is_enabled:
        return ""
    return f"; but those on {names}, which it has lost too, are restarted elsewhere as after a failure"


def _storage_follows(lost: tuple[str, ...], settings: HaSettings) -> str:
    frozen = "its vms on that datastore are frozen, and go on when their lease is still theirs as it works again"
    if not settings.is_enabled:
        return "its vms on that datastore wait; high availability is disabled, so nothing is given up"
    if not settings.apd_timeout_s:
        return frozen
    kept = [
        f"those on {name} are never given up: {settings.kept_on[name]}"
        for name in lost
        if name in settings.kept_on
    ]
    if kept and len(kept) == len(lost):
        return "; ".join([frozen, *kept])
    given = (
        f"after {settings.apd_timeout_s} s they are given up and restarted elsewhere, if another host has room "
        "and no disk of theirs has the cache mode writeback"
    )
    return "; ".join([frozen, given, *kept])


def _ago(seconds: float) -> str:
    return f"{seconds:.1f} s ago"


# vms ---------------------------------------------------------------------------------------------------


def explain_vm(
    record: VmRecord,
    lease: Lease | None,
    hosts: Mapping[str, HostStatus],
    settings: HaSettings,
    *,
    judge: str,
    answer: str = "",
) -> Explanation:
    """`hosts`: by name, as judged by `judge`. `lease`: as read on the vm's datastore. `answer`: what its host
    knows of its guest after a restart by high availability; empty: nothing."""
    policy, name = record.definition.ha, record.definition.name
    lines = [
        _lease_line(lease, record.datastore),
        *(_side(role, host, hosts) for role, host in _sides(lease)),
        *((answer,) if answer else ()),
        f"wanted: {record.wanted}",
        f"restart priority: {policy.restart_priority}",
        f"isolation response: {response_of(record, settings)}"
        + (" (das.isolationresponse)" if policy.isolation_response == "default" else ""),
        f"high availability is {'enabled' if settings.is_enabled else 'disabled'}",
    ]
    if policy.anti_affinity:
        lines.append(f"kept apart from others of the group {policy.anti_affinity}")
    if policy.preferred_hosts:
        lines.append(f"preferred hosts: {', '.join(policy.preferred_hosts)}")
    return Explanation(
        subject=name,
        kind="vm",
        judge=judge,
        judgement=f"{name} {_vm_judgement(lease, _frozen_by(record, lease, hosts, settings))}",
        evidence=tuple(lines),
        follows=_vm_follows(record, lease, hosts, settings),
    )


def response_of(record: VmRecord, settings: HaSettings) -> IsolationResponse:
    own = record.definition.ha.isolation_response
    return settings.response if own == "default" else IsolationResponse(own)


def unprotected(record: VmRecord, settings: HaSettings) -> str:
    """Why the vm is not restarted after a failure; empty: it is protected."""
    if not settings.is_enabled:
        return "high availability is disabled"
    if record.wanted != "running":
        return "it is not wanted to run"
    if record.definition.ha.restart_priority is RestartPriority.DISABLED:
        return "its restart priority is disabled"
    return ""


def _frozen_by(
    record: VmRecord, lease: Lease | None, hosts: Mapping[str, HostStatus], settings: HaSettings
) -> HostStatus | None:
    """The host that holds it and keeps it frozen, since it does not reach the vm's datastore. None: it runs, or
    that host has failed."""
    if not settings.is_enabled or lease is None or lease.state is not LeaseState.RUNNING or lease.holder is None:
        return None
    status = hosts.get(lease.holder.host)
    if status is None or status.verdict is Verdict.FAILED or record.datastore not in status.frozen_on:
        return None
    return status


def _vm_judgement(lease: Lease | None, frozen: HostStatus | None) -> str:
    if lease is None:
        return "has never run: it has no lease"
    holder = lease.holder.host if lease.holder else "nobody"
    if frozen is not None:
        return f"stands still on {holder}, epoch {lease.epoch}: {holder} does not reach its datastore and froze it"
    if lease.state is LeaseState.RUNNING:
        moving = f", and is being migrated to {lease.heir}" if lease.heir else ""
        return f"runs on {holder}, epoch {lease.epoch}{moving}"
    if lease.state is LeaseState.RESUMING:
        return f"is being resumed by {holder} with its memory, epoch {lease.epoch}"
    if lease.state is LeaseState.SUSPENDED:
        return f"is suspended with its memory saved, epoch {lease.epoch}"
    return f"is {'down after a failure' if lease.is_failure else 'stopped'}, epoch {lease.epoch}"


def _lease_line(lease: Lease | None, datastore: str) -> str:
    if lease is None:
        return f"lease on {datastore}: none"
    why = f" ({lease.why})" if lease.why else ""
    return f"lease on {datastore}: epoch {lease.epoch}, {lease.state}{why}"


def _sides(lease: Lease | None) -> list[tuple[str, str]]:
    if lease is None:
        return []
    holder = [("holder", lease.holder.host)] if lease.holder else []
    return holder + ([("heir", lease.heir)] if lease.heir else [])


def _side(role: str, host: str, hosts: Mapping[str, HostStatus]) -> str:
    status = hosts.get(host)
    return f"{role} {host}: " + (f"{status.verdict}; {status.why}" if status else "no host of the cluster")


def _vm_follows(
    record: VmRecord, lease: Lease | None, hosts: Mapping[str, HostStatus], settings: HaSettings
) -> str:
    name, why_not = record.definition.name, unprotected(record, settings)
    if lease is None or lease.state is LeaseState.RELEASED:
        if lease is not None and lease.is_failure and not why_not:
            return "it is restarted on a host that fits, at 0, 2, 6, 14 and 30 minutes, until it runs"
        return f"it stays down{f': {why_not}' if why_not else ' until it is started'}"
    if lease.state is LeaseState.SUSPENDED:
        if lease.is_to_resume and not why_not:
            return "it is resumed on another host with its memory"
        return f"it stays suspended until it is resumed: zv vm resume {name}"
    sides = [hosts[host] for _, host in _sides(lease) if host in hosts]
    if sides and all(s.verdict is Verdict.FAILED or record.datastore in s.dead_on for s in sides):
        return _after_failure(record, lease, why_not, _gone(record, sides[0]))
    if (frozen := _frozen_by(record, lease, hosts, settings)) is not None:
        return _after_storage(record, frozen, why_not, settings)
    verdicts = [side.verdict for side in sides]
    response = "left running: " + why_not if why_not else _RESPONSES[response_of(record, settings)]
    if Verdict.ISOLATED in verdicts:
        return f"its host is isolated: {response}"
    return f"{_after_failure(record, lease, why_not)}; if it becomes isolated: {response}"


def _after_storage(record: VmRecord, host: HostStatus, why_not: str, settings: HaSettings) -> str:
    name = host.host.name
    goes_on = f"it goes on when {name} reaches {record.datastore} again and its lease is still that host's"
    if why_not:
        return f"{goes_on}; it is not restarted elsewhere, since {why_not}"
    if host.verdict is not Verdict.STORAGE_LOST:
        return f"{goes_on}; it is restarted elsewhere once nobody has heard {name} for the detection time"
    if not settings.apd_timeout_s:
        return f"{goes_on}; das.apdtimeout is 0, so it is not given up"
    kept = settings.kept_on.get(record.datastore) or left_in_cache(record.definition)
    if kept:
        return f"{goes_on}; it is not given up, since {kept}"
    return f"{goes_on}; after {settings.apd_timeout_s} s it is given up and restarted elsewhere, if there is room"


def _gone(record: VmRecord, status: HostStatus) -> str:
    is_failed = status.verdict is Verdict.FAILED
    return "has failed" if is_failed else f"is {status.verdict} and dead on {record.datastore}"


def _after_failure(record: VmRecord, lease: Lease, why_not: str, gone: str = "") -> str:
    """`gone`: what has become of its host; empty: it lives."""
    host = lease.holder.host if lease.holder else "its host"
    head = f"{host} {gone}: " if gone else f"if {host} fails: "
    if why_not:
        return f"{head}it stays down, since {why_not}"
    if lease.state is LeaseState.RESUMING:
        return f"{head}another host resumes it with its saved memory"
    return f"{head}restarted with priority {record.definition.ha.restart_priority}; what was not saved is lost"
