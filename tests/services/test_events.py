from __future__ import annotations

import asyncio

import pytest

from tests.fakes.registry import MemoryRegistry
from tests.services.test_tasks import FastClock, until
from zugvogel.domain.task import Severity
from zugvogel.services import events
from zugvogel.services.events import EventLog


async def written(log: EventLog) -> None:
    await log.drain()
    assert not log._queue


async def test_events_come_back_in_order_with_their_evidence() -> None:
    log = EventLog("host1", MemoryRegistry(), FastClock())
    for i in range(5):
        log.emit("vm.started", f"web{i % 2}", f"number {i}", severity=Severity.WARNING, evidence={"i": i})
    await written(log)
    found = await log.list()
    assert [e.evidence["i"] for e in found] == list(range(5))
    assert [e.evidence["i"] for e in await log.list(limit=2)] == [3, 4]
    assert [e.evidence["i"] for e in await log.list(after=found[1].id)] == [2, 3, 4]
    assert [e.evidence["i"] for e in await log.list(after=found[0].id, limit=2)] == [1, 2]
    assert [e.evidence["i"] for e in await log.list(subject="web1")] == [1, 3]
    assert await log.list(after="zz?") == []


async def test_another_host_sees_them() -> None:
    registry = MemoryRegistry()
    one, other = (EventLog(h, registry, FastClock()) for h in ("host1", "host2"))
    one.emit("vm.started", "web1", "web1 started")
    await written(one)
    other.emit("vm.stopped", "web1", "web1 stopped")
    await written(other)
    assert {e.kind for e in await one.list()} == {"vm.started", "vm.stopped"}


async def test_without_the_registry_events_wait() -> None:
    registry = MemoryRegistry()
    registry.is_reachable = False
    log = EventLog("host1", registry, FastClock())
    runner = asyncio.create_task(log.run())
    log.emit("vm.started", "web1", "web1 started")
    await asyncio.sleep(0.03)
    assert [e.kind for e in await log.list()] == ["vm.started"]
    registry.is_reachable = True
    await until(lambda: len(registry.writes) == 1)
    runner.cancel()


async def test_emit_never_raises() -> None:
    log = EventLog("host1", MemoryRegistry(), FastClock())
    log.emit("vm.started", "web1", "x", evidence={"bad": object()})
    log.emit("vm.started", "web1", None)  # type: ignore[arg-type]
    log.emit("vm.started", "web1", "good")
    assert [e.message for e in await log.list()] == ["good"]


async def test_only_the_newest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "KEPT", 10)
    monkeypatch.setattr(events, "TRIM_EVERY", 1)
    registry = MemoryRegistry()
    log = EventLog("host1", registry, FastClock())
    for i in range(25):
        log.emit("vm.started", "web1", str(i))
    await written(log)
    kept = await registry.list(events.PREFIX)
    assert len(kept) == 10
    assert b'"24"' in kept[-1].value


async def test_events_are_chosen_before_they_are_counted() -> None:
    log = EventLog("host1", MemoryRegistry(), FastClock())
    for i in range(6):
        log.emit("vm.started" if i % 2 else "host.failed", f"{'web' if i % 2 else 'host'}{i}", str(i))
    await written(log)
    assert [e.message for e in await log.list(kind="vm", limit=2)] == ["3", "5"]
    assert [e.message for e in await log.list(vm="web3")] == ["3"]
    assert [e.message for e in await log.list(host="host2", kind="host.failed")] == ["2"]
    assert [e.message for e in await log.list(host="host1", kind="host", limit=1)] == ["4"]
