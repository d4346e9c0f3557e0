from __future__ import annotations

import re
from typing import Any

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from tests.api.conftest import as_backend, bearer
from tests.api.fake_backend import FakeBackend
from zugvogel.api.app import create_app
from zugvogel.api.metrics import METRICS, Exposition, Metric, Seen
from zugvogel.domain.figures import (
    BeatFigures,
    Counted,
    EventCount,
    Figures,
    GuardFigures,
    Judged,
    MoveCount,
    RegistryFigures,
    Spread,
    TaskCount,
)
from zugvogel.domain.ha import Capacity
from zugvogel.domain.host import Verdict, VmReport
from zugvogel.domain.task import Severity, TaskState
from zugvogel.domain.vm import VmState

SPREAD = Spread(bounds=(0.1, 1.0), counts=(2, 0, 1), total=5.1)
FULL = Figures(
    host="host1",
    is_primary=True,
    is_ha_enabled=True,
    failover_level=1,
    active_primaries={"shared": "host1", "other": "host2", "new": None},
    judged=Judged(
        verdicts={"host1": Verdict.LIVE, "host2": Verdict.FAILED},
        heartbeat_ages_s={"host2": 17.5},
        capacity=Capacity(used_bytes=6, reserved_bytes=4, free_bytes=2, is_met=True),
        vms={VmState.RUNNING: 3},
        waiting=2,
    ),
    beats=(
        BeatFigures(datastore="shared", is_usable=True, age_s=0.5, latency_s=0.01),
        BeatFigures(datastore="new", is_usable=False, age_s=None, latency_s=3.0),
    ),
    guard=GuardFigures(is_armed=True, is_ticking=True, frozen=1, is_watched=True),
    registry=RegistryFigures(is_loaded=True, is_reachable=False, latency_s=1.0, is_member=True),
    vms=(VmReport(name="web1", state=VmState.FROZEN, epoch=1, memory_bytes=2**30, cpus=2),),
    tasks={TaskState.RUNNING: 1},
    counted=Counted(
        events=(
            EventCount(kind="vm.restarted", severity=Severity.WARNING, count=3),
            EventCount(kind="vm.restart-failed", severity=Severity.WARNING, count=1),
            EventCount(kind="vm.restart-failed", severity=Severity.ERROR, count=1),
            EventCount(kind="host.failed", severity=Severity.ERROR, count=1),
        ),
        tasks=(TaskCount(kind="vm.start", state=TaskState.DONE, count=5),),
        moves=(MoveCount(mode="live", result="moved", count=3),),
        durations_s={"live": SPREAD},
        blackouts_s={"live": SPREAD},
    ),
)
EMPTY = FakeBackend().shown_figures
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def exposed(figures: Figures, lag_s: float | None = 0.002) -> Samples:
    text, _ = Exposition().text(Seen(figures, 4, lag_s))
    found = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            found[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
    return found


def of(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((name, tuple(sorted(labels.items()))))


@pytest.mark.parametrize(
    ("name", "labels", "value"),
    [
        ("primary", {}, 1),
        ("active_primary", {"datastore": "other", "host": "host2"}, 1),
        ("active_primary", {"datastore": "new", "host": ""}, None),
        ("active_primary_self", {"datastore": "shared"}, 1),
        ("active_primary_self", {"datastore": "other"}, 0),
        ("active_primary_self", {"datastore": "new"}, 0),
        ("host_verdict", {"host": "host2", "verdict": "failed"}, 1),
        ("host_verdict", {"host": "host2", "verdict": "live"}, 0),
        ("host_heartbeat_age_seconds", {"host": "host2"}, 17.5),
        ("beat_age_seconds", {"datastore": "shared"}, 0.5),
        ("beat_age_seconds", {"datastore": "new"}, None),
        ("beat_latency_seconds", {"datastore": "new"}, 3),
        ("datastore_usable", {"datastore": "new"}, 0),
        ("guard_armed", {}, 1),
        ("guard_ticking", {}, 1),
        ("guard_watchdog", {}, 1),
        ("guard_frozen_vms", {}, 1),
        ("ha_enabled", {}, 1),
        ("failover_level", {}, 1),
        ("admission_used_bytes", {}, 6),
        ("admission_reserved_bytes", {}, 4),
        ("admission_free_bytes", {}, 2),
        ("admission_met", {}, 1),
        ("vms", {"state": "frozen"}, 1),
        ("vms", {"state": "running"}, 0),
        ("cluster_vms", {"state": "running"}, 3),
        ("vm_state", {"vm": "web1", "state": "frozen"}, 1),
        ("vm_state", {"vm": "web1", "state": "running"}, None),
        ("vm_memory_bytes", {"vm": "web1"}, 2**30),
        ("vm_cpus", {"vm": "web1"}, 2),
        ("host_failures_total", {}, 1),
        ("vm_restarts_total", {"result": "restarted"}, 3),
        ("vm_restarts_total", {"result": "failed"}, 2),
        ("vm_restarts_waiting", {}, 2),
        ("migrations_total", {"mode": "live", "result": "moved"}, 3),
        ("migration_blackout_seconds_bucket", {"mode": "live", "le": "0.1"}, 2),
        ("migration_blackout_seconds_bucket", {"mode": "live", "le": "1.0"}, 2),
        ("migration_blackout_seconds_bucket", {"mode": "live", "le": "+Inf"}, 3),
        ("migration_blackout_seconds_count", {"mode": "live"}, 3),
        ("migration_duration_seconds_sum", {"mode": "live"}, 5.1),
        ("tasks", {"state": "running"}, 1),
        ("tasks", {"state": "pending"}, 0),
        ("tasks_ended_total", {"kind": "vm.start", "state": "done"}, 5),
        ("events_total", {"kind": "vm.restart-failed", "severity": "error"}, 1),
        ("registry_loaded", {}, 1),
        ("registry_reachable", {}, 0),
        ("registry_read_seconds", {}, 1),
        ("registry_member", {}, 1),
        ("watchers", {}, 4),
        ("loop_lag_seconds", {}, 0.002),
    ],
)
def test_each_figure_is_told_under_its_name(name: str, labels: dict[str, str], value: float | None) -> None:
    assert of(exposed(FULL), f"zugvogel_{name}", **labels) == value


def test_all_that_the_table_names_is_told_and_nothing_else() -> None:
    text, _ = Exposition().text(Seen(FULL, 0, 0.0))
    families = {f.name: f for f in text_string_to_metric_families(text.decode()) if f.name.startswith("zugvogel_")}
    assert set(families) == {m.name.removesuffix("_total") for m in METRICS}
    for metric in METRICS:
        family = families[metric.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.kind, metric.text)
        told = {frozenset(s.labels) - {"le"} for s in family.samples}
        assert told == {frozenset(metric.labels)}, metric.name


def test_a_secondary_does_not_tell_what_only_primaries_know() -> None:
    text, _ = Exposition().text(Seen(EMPTY, 0, 0.0))
    told = {f.name for f in text_string_to_metric_families(text.decode()) if f.samples}
    for metric in METRICS:
        if metric.on_primaries:
            assert metric.name not in told
    assert "zugvogel_primary" in told


def test_names_and_units_are_as_prometheus_wants_them() -> None:
    for metric in METRICS:
        assert re.fullmatch(r"zugvogel_[a-z]+(_[a-z]+)*", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert not re.search(r"_(ms|s|sec|kb|mib|count)(_total)?$", metric.name)
        if metric.kind == "histogram":
            assert metric.name.endswith("_seconds")
    assert len({m.name for m in METRICS}) == len(METRICS)


def test_counters_are_there_before_the_first_of_what_they_count() -> None:
    samples = exposed(EMPTY)
    assert of(samples, "zugvogel_vm_restarts_total", result="restarted") == 0
    assert of(samples, "zugvogel_host_failures_total") == 0


def test_the_process_tells_of_itself_and_an_unmeasured_lag_is_left_out() -> None:
    samples = exposed(EMPTY, None)
    assert (of(samples, "process_resident_memory_bytes") or 0) > 0
    assert of(samples, "zugvogel_loop_lag_seconds") is None


def test_the_number_of_series_is_bounded_by_what_there_is() -> None:
    series = [key for key in exposed(FULL) if key[0].startswith("zugvogel_")]
    per_vm = [key for key in series if ("vm", "web1") in key[1]]
    assert len(per_vm) == 3
    assert len([key for key in series if ("host", "host2") in key[1]]) == len(Verdict) + 2


def test_a_scrape_keeps_nothing() -> None:
    exposition = Exposition()
    exposition.text(Seen(FULL))
    text, _ = exposition.text(Seen(EMPTY))
    assert b"web1" not in text


@pytest.fixture
async def scraper() -> Any:
    backend = FakeBackend()
    backend.shown_figures = FULL
    transport = httpx.ASGITransport(create_app(as_backend(backend), "THE CA"))
    async with httpx.AsyncClient(transport=transport, base_url="https://api") as client:
        yield client


async def test_a_viewer_scrapes_it_outside_the_api(scraper: httpx.AsyncClient) -> None:
    answer = await scraper.get("/metrics", headers=bearer("viewer"))
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert 'zugvogel_host_verdict{host="host2",verdict="failed"} 1.0' in answer.text


async def test_as_openmetrics_where_that_is_asked_for(scraper: httpx.AsyncClient) -> None:
    headers = bearer("viewer") | {"accept": "application/openmetrics-text; version=1.0.0"}
    answer = await scraper.get("/metrics", headers=headers)
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    families = openmetrics_families(answer.text)  # type: ignore[no-untyped-call]
    assert "zugvogel_migrations" in {family.name for family in families}


async def test_nobody_scrapes_without_a_bearer(scraper: httpx.AsyncClient) -> None:
    assert (await scraper.get("/metrics")).status_code == 403


def test_the_table_has_a_sentence_for_each() -> None:
    for metric in METRICS:
        assert metric.text.endswith("."), metric.name
        assert isinstance(metric, Metric) or metric.kind == "histogram"
