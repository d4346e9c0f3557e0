"""The figures of an agent as Prometheus wants them. What is told, under which name, is the table `METRICS`.

The number of series is bounded by hosts, datastores, vms of this host, and kinds of tasks and events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from zugvogel import __version__
from zugvogel.domain.figures import Figures, Spread
from zugvogel.domain.host import Verdict
from zugvogel.domain.task import TaskState
from zugvogel.domain.vm import VmState

RESTARTED, RESTART_FAILED, HOST_FAILED = "vm.restarted", "vm.restart-failed", "host.failed"
Samples = Iterable[tuple[tuple[str, ...], float]]


@dataclass(frozen=True, slots=True)
class Seen:
    """What is told at one scrape. `lag_s` None: not measured yet."""

    figures: Figures
    watchers: int = 0
    lag_s: float | None = None


@dataclass(frozen=True, slots=True)
class Metric:
    """`samples`: values of the labels, and the value. `on_primaries`: secondaries do not tell it."""

    name: str
    kind: Literal["gauge", "counter"]
    text: str
    samples: Callable[[Seen], Samples]
    labels: tuple[str, ...] = ()
    on_primaries: bool = False


@dataclass(frozen=True, slots=True)
class Distribution:
    name: str
    text: str
    spreads: Callable[[Seen], dict[str, Spread]]
    labels: tuple[str, ...] = ("mode",)
    on_primaries: bool = False
    kind: Literal["histogram"] = "histogram"


def _one(value: Callable[[Figures], float | None]) -> Callable[[Seen], Samples]:
    def samples(seen: Seen) -> Samples:
        found = value(seen.figures)
        return [] if found is None else [((), float(found))]

    return samples


def _room(value: Callable[[Figures], float]) -> Callable[[Seen], Samples]:
    return lambda seen: [((), value(seen.figures))] if seen.figures.judged is not None else []


def _capacity(name: str) -> Callable[[Figures], float]:
    return lambda f: float(getattr(f.judged.capacity, name)) if f.judged is not None else 0.0


def _verdicts(seen: Seen) -> Samples:
    for host, held in (seen.figures.judged.verdicts if seen.figures.judged else {}).items():
        for verdict in Verdict:
            yield (host, verdict), float(held is verdict)


def _heartbeats(seen: Seen) -> Samples:
    judged = seen.figures.judged
    return [((host,), age_s) for host, age_s in judged.heartbeat_ages_s.items()] if judged else []


def _all_vms(seen: Seen) -> Samples:
    judged = seen.figures.judged
    return [((state,), judged.vms.get(state, 0)) for state in VmState] if judged else []


def _vms(seen: Seen) -> Samples:
    states = [vm.state for vm in seen.figures.vms]
    return [((state,), states.count(state)) for state in VmState]


def _tasks(seen: Seen) -> Samples:
    return [((s,), seen.figures.tasks.get(s, 0)) for s in TaskState if not s.is_final]


def _events(*kinds: str) -> Callable[[Figures], float]:
    return lambda f: sum(c.count for c in f.counted.events if c.kind in kinds)


def _restarts(seen: Seen) -> Samples:
    yield ("restarted",), _events(RESTARTED)(seen.figures)
    yield ("failed",), _events(RESTART_FAILED)(seen.figures)


METRICS: tuple[Metric | Distribution, ...] = (
    Metric("zugvogel_build_info", "gauge", "Always 1; the agent's version.",
           lambda s: [((__version__,), 1.0)], ("version",)),
    Metric("zugvogel_primary", "gauge", "1: this host is a primary.", _one(lambda f: f.is_primary)),
    Metric("zugvogel_active_primary", "gauge", "1 for the host that judges hosts by this datastore.",
           lambda s: [((d, h), 1.0) for d, h in s.figures.active_primaries.items() if h], ("datastore", "host")),
    Metric("zugvogel_active_primary_self", "gauge", "1: this host is the datastore's active primary.",
           lambda s: [((d,), float(h == s.figures.host)) for d, h in s.figures.active_primaries.items()],
           ("datastore",)),
    Metric("zugvogel_host_verdict", "gauge", "1 for this primary's verdict of the host.",
           _verdicts, ("host", "verdict"), on_primaries=True),
    Metric("zugvogel_host_heartbeat_age_seconds", "gauge", "Since this primary heard the host's last heartbeat.",
           _heartbeats, ("host",), on_primaries=True),
    Metric("zugvogel_beat_age_seconds", "gauge", "Since this host's last good beat on the datastore began.",
           lambda s: [((b.datastore,), b.age_s) for b in s.figures.beats if b.age_s is not None], ("datastore",)),
    Metric("zugvogel_beat_latency_seconds", "gauge",
           "What this host's last beat on the datastore took, or takes by now.",
           lambda s: [((b.datastore,), b.latency_s) for b in s.figures.beats], ("datastore",)),
    Metric("zugvogel_datastore_usable", "gauge", "1: this host's last beat on the datastore was written in time.",
           lambda s: [((b.datastore,), float(b.is_usable)) for b in s.figures.beats], ("datastore",)),
    Metric("zugvogel_guard_armed", "gauge", "1: the guard is to freeze this host's vms when its beats fail.",
           _one(lambda f: f.guard.is_armed)),
    Metric("zugvogel_guard_ticking", "gauge", "1: the guard runs.", _one(lambda f: f.guard.is_ticking)),
    Metric("zugvogel_guard_watchdog", "gauge", "1: a watchdog resets this host when it hangs.",
           _one(lambda f: f.guard.is_watched)),
    Metric("zugvogel_guard_frozen_vms", "gauge", "Vms that the guard keeps stopped.",
           _one(lambda f: f.guard.frozen)),
    Metric("zugvogel_ha_enabled", "gauge", "1: high availability is enabled.", _one(lambda f: f.is_ha_enabled)),
    Metric("zugvogel_failover_level", "gauge", "Host failures for which room is kept (das.failoverlevel).",
           _one(lambda f: f.failover_level)),
    Metric("zugvogel_admission_used_bytes", "gauge", "Memory in use by vms, of all hosts that can take vms.",
           _room(_capacity("used_bytes")), on_primaries=True),
    Metric("zugvogel_admission_reserved_bytes", "gauge", "Memory kept free for the failover level.",
           _room(_capacity("reserved_bytes")), on_primaries=True),
    Metric("zugvogel_admission_free_bytes", "gauge", "Memory that vms may still be started with, in sum.",
           _room(_capacity("free_bytes")), on_primaries=True),
    Metric("zugvogel_admission_met", "gauge", "0: the reserve does not fit any more.",
           _room(_capacity("is_met")), on_primaries=True),
    Metric("zugvogel_vms", "gauge", "Vms that run on this host, by state.", _vms, ("state",)),
    Metric("zugvogel_cluster_vms", "gauge", "All vms of the cluster, by state.", _all_vms, ("state",),
           on_primaries=True),
    Metric("zugvogel_vm_state", "gauge", "1 for the state of a vm of this host.",
           lambda s: [((vm.name, vm.state), 1.0) for vm in s.figures.vms], ("vm", "state")),
    Metric("zugvogel_vm_memory_bytes", "gauge", "Memory of a vm of this host.",
           lambda s: [((vm.name,), vm.memory_bytes) for vm in s.figures.vms], ("vm",)),
    Metric("zugvogel_vm_cpus", "gauge", "Virtual CPUs of a vm of this host.",
           lambda s: [((vm.name,), vm.cpus) for vm in s.figures.vms], ("vm",)),
    Metric("zugvogel_host_failures_total", "counter",
           "Hosts that this agent judged failed as the active primary.", _one(_events(HOST_FAILED))),
    Metric("zugvogel_vm_restarts_total", "counter",
           "Restarts after failures that this agent ordered, and what became of them.", _restarts, ("result",)),
    Metric("zugvogel_vm_restarts_waiting", "gauge", "Restarts that this agent owes as a judge.",
           _one(lambda f: f.judged.waiting if f.judged else None), on_primaries=True),
    Metric("zugvogel_migrations_total", "counter",
           "Moves of vms away from this host. mode: live, quick, unknown where it ended before its first report.",
           lambda s: [((m.mode, m.result), m.count) for m in s.figures.counted.moves], ("mode", "result")),
    Distribution("zugvogel_migration_duration_seconds", "Moves away from this host that succeeded, as a whole.",
                 lambda s: s.figures.counted.durations_s),
    Distribution("zugvogel_migration_blackout_seconds",
                 "Of the same moves: how long the vm stood still (live: downtime, quick: outage).",
                 lambda s: s.figures.counted.blackouts_s),
    Metric("zugvogel_tasks", "gauge", "Tasks of this host that are under way, by state.", _tasks, ("state",)),
    Metric("zugvogel_tasks_ended_total", "counter", "Tasks of this host that ended, by kind and outcome.",
           lambda s: [((t.kind, t.state), t.count) for t in s.figures.counted.tasks], ("kind", "state")),
    Metric("zugvogel_events_total", "counter", "Events of this host, see events.md.",
           lambda s: [((e.kind, e.severity), e.count) for e in s.figures.counted.events], ("kind", "severity")),
    Metric("zugvogel_registry_loaded", "gauge", "1: this agent has read the registry since it started.",
           _one(lambda f: f.registry.is_loaded)),
    Metric("zugvogel_registry_reachable", "gauge", "1: the registry answers with a majority behind it.",
           _one(lambda f: f.registry.is_reachable)),
    Metric("zugvogel_registry_read_seconds", "gauge", "What that read took, or after which it was given up.",
           _one(lambda f: f.registry.latency_s)),
    Metric("zugvogel_registry_member", "gauge", "1: this host runs a member of etcd.",
           _one(lambda f: f.registry.is_member)),
    Metric("zugvogel_watchers", "gauge", "Streams of GET /api/v1/watch that are open.",
           lambda s: [((), s.watchers)]),
    Metric("zugvogel_loop_lag_seconds", "gauge",
           "How late the agent's loop was at most in the last half minute; its heartbeats are as late.",
           lambda s: [((), s.lag_s)] if s.lag_s is not None else []),
)  # fmt: skip


class Exposition:
    """One for each API: Prometheus' text of what was seen. The process' own metrics come with it."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._collector = _Scrape()
        ProcessCollector(registry=self._registry)
        self._registry.register(self._collector)

    def text(self, seen: Seen, accept: str = "") -> tuple[bytes, str]:
        """The text and its content type, as the scraper's Accept header wants it."""
        encode, content_type = choose_encoder(accept)
        self._collector.seen = seen
        try:
            return encode(self._registry), content_type
        finally:
            self._collector.seen = None


class _Scrape(Collector):
    def __init__(self) -> None:
        self.seen: Seen | None = None

    def collect(self) -> Iterator[Family]:
        for metric in METRICS if self.seen is not None else ():
            yield _family(metric, self.seen) if isinstance(metric, Metric) else _histogram(metric, self.seen)


def _family(metric: Metric, seen: Seen | None) -> Family:
    make = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = make(metric.name, metric.text, labels=metric.labels)
    for labels, value in metric.samples(seen) if seen is not None else ():
        family.add_metric(labels, value)
    return family


def _histogram(metric: Distribution, seen: Seen | None) -> Family:
    family = HistogramMetricFamily(metric.name, metric.text, labels=metric.labels)
    for mode, spread in (metric.spreads(seen) if seen is not None else {}).items():
        counts = list(accumulate(spread.counts))
        names = [*(str(bound) for bound in spread.bounds), "+Inf"]
        family.add_metric([mode], list(zip(names, counts, strict=True)), spread.total)
    return family
