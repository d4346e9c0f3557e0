"""Changes of hosts' verdicts as events, told once, by the judge of the first datastore."""

from __future__ import annotations

from collections.abc import Sequence

from zugvogel.domain.host import HostStatus, Verdict
from zugvogel.domain.task import Severity
from zugvogel.services.events import EventLog

WELL = {Verdict.LIVE, Verdict.MAINTENANCE}
RECENT = 4.0
"""A judge that has just taken over tells what happened within so many detection times; what is older was told by
the one before it."""


class VerdictEvents:
    def __init__(self, host: str, events: EventLog) -> None:
        self._host = host
        self._events = events
        self._known: dict[str, Verdict] | None = None

    def forget(self) -> None:
        """This host does not judge any more."""
        self._known = None

    def tell(self, statuses: Sequence[HostStatus], detection_time_s: float) -> bool:
        """True when a verdict has changed."""
        before, now = self._known, {status.host.name: status.verdict for status in statuses}
        if now == before:
            return False
        self._known = now
        for status in statuses:
            was = before.get(status.host.name, status.verdict) if before is not None else None
            if was is status.verdict:
                continue
            is_news = was is not None or (
                status.heartbeat_age_s is not None and status.heartbeat_age_s < RECENT * detection_time_s
            )
            if status.verdict not in WELL and is_news:
                self._tell_ill(status)
            elif status.verdict in WELL and was is not None and was not in WELL:
                self._tell_well(status, was)
        return True

    def _tell_ill(self, status: HostStatus) -> None:
        name, verdict = status.host.name, status.verdict
        self._events.emit(
            {
                Verdict.FAILED: "host.failed",
                Verdict.ISOLATED: "host.isolated",
                Verdict.STORAGE_LOST: "host.storage-lost",
            }.get(verdict, "host.partitioned"),
            name,
            f"{name} is {verdict}, as {self._host} judges: {status.why}",
            severity=Severity.ERROR if verdict is Verdict.FAILED else Severity.WARNING,
            evidence=_evidence(status),
        )

    def _tell_well(self, status: HostStatus, was: Verdict) -> None:
        name = status.host.name
        told = f"{name} is {status.verdict} again, was {was}: {status.why}"
        self._events.emit("host.returned", name, told, evidence=_evidence(status))


def _evidence(status: HostStatus) -> dict[str, object]:
    return {
        "verdict": status.verdict.value,
        "heartbeat_age_s": status.heartbeat_age_s,
        "beat_ages_s": status.beat_ages_s,
        "vms": [vm.name for vm in status.report.vms] if status.report is not None else [],
    }
