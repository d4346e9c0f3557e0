"""What keeps a vm from running twice, and whether it is there. Pure: reports in, sentences out."""

from __future__ import annotations

from zugvogel.core.death_proof import proof_of
from zugvogel.domain.datastore import Datastore
from zugvogel.domain.guard import GuardReport
from zugvogel.domain.ha import Proof, Protection

GUARD, WATCHDOG, FENCE = "guard", "watchdog", "power fence"
IMAGE_LOCK, SHARED = "image lock", "shared storage"

_HANGS = "a host that hangs as a whole and wakes up runs its vms until its guard acts"


def of_guard(host: str, report: GuardReport | None, *, is_ticking: bool) -> tuple[Protection, ...]:
    """`report`: of the guard's last round, `is_ticking`: that was just now."""
    ticks = report if is_ticking else None
    has_watchdog = ticks is not None and ticks.has_watchdog
    return (
        Protection(name=GUARD, subject=host, is_present=ticks is not None, why=_guard(ticks)),
        Protection(name=WATCHDOG, subject=host, is_present=has_watchdog, why=_watchdog(has_watchdog)),
    )


def unknown(host: str, why: str) -> tuple[Protection, ...]:
    """Of a host that cannot be asked."""
    return tuple(Protection(name=name, subject=host, is_present=False, why=why) for name in (GUARD, WATCHDOG))


def of_fence(host: str, has_fence: bool) -> Protection:
    why = "a device can cut its power" if has_fence else "no device is configured that could cut its power"
    return Protection(name=FENCE, subject=host, is_present=has_fence, why=why)


def of_datastore(datastore: Datastore) -> tuple[Protection, ...]:
    found = proof_of(datastore)
    lock = Protection(name=IMAGE_LOCK, subject=datastore.name, is_present=found.proof is Proof.LOCK, why=found.why)
    if datastore.is_shared:
        return (lock,)
    why = "other hosts do not reach it: vms there are restarted on their own host alone"
    return (lock, Protection(name=SHARED, subject=datastore.name, is_present=False, why=why))


def _guard(report: GuardReport | None) -> str:
    if report is None:
        return (
            "it does not tick; it is started when high availability is enabled, and no beat is written without it"
        )
    if report.trouble:
        return f"it ticks, but {report.trouble}"
    lacks = [
        what
        for what, is_granted in (
            ("real-time priority", report.is_realtime),
            ("locked memory", report.is_memory_locked),
        )
        if not is_granted
    ]
    return f"it ticks, without {' and '.join(lacks)}" if lacks else "it ticks, in real time and in locked memory"


def _watchdog(is_fed: bool) -> str:
    return "the guard feeds it; a host that hangs is reset" if is_fed else f"none is fed: {_HANGS}"
