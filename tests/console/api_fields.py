"""What the API tells, made of its own models, so that a page that misreads a field fails here."""

from __future__ import annotations

from typing import Any

from zugvogel.api.views import setting_view
from zugvogel.console.mirror import Fields
from zugvogel.domain.answers import AdmissionView, EventView, HaView, HostView
from zugvogel.domain.ha import Placed, Protection, RestartPriority
from zugvogel.domain.host import Role, Verdict
from zugvogel.domain.memory import QuickReport
from zugvogel.domain.migration import (
    Forecast,
    MigrationProgress,
    MigrationReport,
    NetworkCheck,
    Phase,
    Round,
)
from zugvogel.domain.settings import SETTINGS
from zugvogel.domain.task import Event, Progress, Severity, Task, TaskState
from zugvogel.ports.backend import SettingValue

AT = "2026-03-01T12:30:45.250Z"
HOSTILE = "\"><img src=x onerror=alert(1)>'\x1e\x1f</script><b>&lt;"
"""Whatever a text of the API may hold: a guest's, an operator's, an error's."""

ROUNDS = (
    Round(
        number=1,
        transferred_bytes=2**30,
        remaining_bytes=2**26,
        dirty_rate_bps=1e7,
        throughput_bps=1e9,
        expected_downtime_ms=0.0,
        duration_s=1.1,
    ),
    Round(
        number=2,
        transferred_bytes=2**26,
        remaining_bytes=2**20,
        dirty_rate_bps=2e6,
        throughput_bps=9e8,
        expected_downtime_ms=12.5,
        duration_s=0.2,
    ),
)


def host(name: str = "host1", **fields: Any) -> Fields:
    made = HostView(
        name=name,
        role=Role.PRIMARY,
        is_active_primary=False,
        verdict=Verdict.LIVE,
        address="198.51.100.1",
        why="heartbeats and beats arrive",
        ordinal=1,
        joined_at=AT,
        heartbeat_age_s=0.4,
        beat_ages_s={"shared": 0.6},
        load1=1.5,
        is_in_maintenance=False,
        failure_domain="",
        cores=16,
        memory_total_bytes=2**36,
        memory_available_bytes=2**35,
    )
    return {**made.model_dump(mode="json"), **fields}


def unheard(name: str) -> Fields:
    """A host that has not reported yet."""
    return host(
        name, cores=0, memory_total_bytes=0, memory_available_bytes=0, heartbeat_age_s=None, beat_ages_s={}
    )


def ha(**fields: Any) -> Fields:
    made = HaView(
        enabled=True,
        active_primary="host1",
        active_primaries={"shared": "host1"},
        failover_level=1,
        admission=AdmissionView(
            used=2**34, reserved=2**35, free=2**34, largest=2**33, is_met=True, why="one failure fits"
        ),
        detection_time_ms=15000,
        protections=[
            Protection(name="watchdog", subject="host1", is_present=True, why="/dev/watchdog is open"),
            Protection(name="fence", subject="host2", is_present=False, why="none is set"),
        ],
        restarting=[],
    )
    return {**made.model_dump(mode="json"), **fields}


def event(number: int, **fields: Any) -> Fields:
    made = Event(
        id=f"{number:06}",
        at=AT,
        kind="vm.started",
        severity=Severity.INFO,
        host="host1",
        subject="web1",
        message="web1 started on host1",
        evidence={"epoch": 3, "lock": {"file": "disk0", "took_ms": 12.5}, "tried": ["host2", "host3"]},
    )
    view = EventView.of(made.model_copy(update=fields))
    return view.model_dump(mode="json")


def task(task_id: str = "t1", **fields: Any) -> Fields:
    made = Task(
        id=task_id,
        kind="vm.migrate",
        subject="web1",
        owner="host1",
        state=TaskState.RUNNING,
        created_at=AT,
        started_at=AT,
        is_cancellable=True,
        progress=Progress(phase="precopy", message="round 2", fraction=0.5),
    )
    return made.model_copy(update=fields).model_dump(mode="json")


def live_progress(elapsed_s: float = 1.5) -> Progress:
    detail = MigrationProgress(
        phase="precopy",
        rounds=ROUNDS[:1],
        transferred_bytes=2**30,
        remaining_bytes=2**25,
        total_bytes=2**30,
        throughput_bps=1e9,
        dirty_rate_bps=1e6,
        expected_downtime_ms=0.0,
        downtime_limit_ms=300.0,
        elapsed_s=elapsed_s,
    )
    return Progress(phase="precopy", message="round 2", fraction=0.97, detail=detail.model_dump(mode="json"))


CHECKS = (
    NetworkCheck(
        mac="52:54:00:00:00:01", rarp_seen=True, rarp_at_s=1.45, answered_at_s=1.5, is_verified=True, why="answers"
    ),
    NetworkCheck(mac="52:54:00:00:00:02", is_verified=None, why="no address is known"),
    NetworkCheck(mac="52:54:00:00:00:03", rarp_seen=False, is_verified=False, why="no RARP came"),
)


def live_report(**fields: Any) -> Fields:
    made = MigrationReport(
        vm="web1",
        source="host1",
        target="host2",
        result="moved",
        total_s=2.0,
        downtime_ms=18.5,
        transferred_bytes=2**30 + 2**26,
        request_to_first_byte_s=0.3,
        memory_bytes=2**30,
        channels=4,
        is_encrypted=True,
        rounds=ROUNDS,
        phases=(
            Phase(name="prepare", start_s=0.0, duration_s=0.1),
            Phase(name="precopy", start_s=0.1, duration_s=1.3),
            Phase(name="switchover", start_s=1.4, duration_s=0.0185),
            Phase(name="verify", start_s=1.5, duration_s=0.5),
        ),
        network=CHECKS,
    )
    return made.model_copy(update=fields).model_dump(mode="json")


def quick_report(**fields: Any) -> Fields:
    made = QuickReport(
        vm="web1",
        source="host1",
        target="host2",
        result="moved",
        total_s=5.0,
        downtime_ms=1900.0,
        outage_ms=2000.0,
        transferred_bytes=2**30,
        memory_bytes=2**30,
        format="mapped",
        forecast=Forecast(size_bytes=2**30, free_bytes=2**40, write_bps=1e9, outage_s=1.8, how="written at once"),
        phases=(
            Phase(name="prepare", start_s=0.0, duration_s=1.0),
            Phase(name="suspend", start_s=1.0, duration_s=1.0),
            Phase(name="durable", start_s=2.0, duration_s=0.1),
            Phase(name="hand-over", start_s=2.1, duration_s=0.2),
            Phase(name="load", start_s=2.3, duration_s=0.7),
        ),
    )
    return made.model_copy(update=fields).model_dump(mode="json")


def settings(**values: Any) -> dict[str, Fields]:
    """All that there are; `values`: those that somebody changed (``_`` for the dot)."""
    changed = {name.replace("_", ".", 1): value for name, value in values.items()}
    held = [SettingValue(each, changed.get(each.name, each.default)) for each in SETTINGS.values()]
    return {each.setting.name: setting_view(each).model_dump(mode="json") for each in held}


def plan(**fields: Any) -> Fields:
    placed = [
        Placed(
            vm="web1",
            priority=RestartPriority.HIGH,
            memory_bytes=2**30,
            source="host1",
            host="host2",
            why="it has the most room",
        ),
        Placed(
            vm="big1",
            priority=RestartPriority.LOW,
            memory_bytes=2**40,
            source="host1",
            host=None,
            why="no host has so much memory",
        ),
    ]
    return {
        "hosts": ["host1"],
        "placed": [each.model_dump(mode="json") for each in placed],
        "is_complete": False,
        **fields,
    }
