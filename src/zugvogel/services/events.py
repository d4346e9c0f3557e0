"""The event log: what was seen and done, with evidence. The newest 5,000 of the cluster are kept.

`emit` only queues; `run` writes to the registry as ``events/<id>``. Ids sort by time, so that the events
of a span of time are a few registry prefixes and a follower costs little.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from pydantic import ValidationError

from zugvogel.domain.task import Event, Severity
from zugvogel.errors import Unreachable, ZugvogelError
from zugvogel.ports.clock import Clock
from zugvogel.ports.registry import Entry, Registry
from zugvogel.services.sortable_id import SortableIds, buckets

log = logging.getLogger(__name__)

PREFIX = "events/"
KEPT = 5000
QUEUED = 2000
"""Events that wait for the registry; beyond that the oldest are dropped, and this is logged."""
RECENT = 500
TRIM_EVERY = 100
RETRY_S = 2.0
LEVELS = {Severity.INFO: logging.INFO, Severity.WARNING: logging.WARNING, Severity.ERROR: logging.ERROR}


class EventLog:
    def __init__(self, host: str, registry: Registry, clock: Clock) -> None:
        self._host = host
        self._registry = registry
        self._clock = clock
        self._ids = SortableIds(clock)
        self._queue: deque[Event] = deque(maxlen=QUEUED)
        self._recent: deque[Event] = deque(maxlen=RECENT)
        self._wake = asyncio.Event()
        self._until_trim = 0
        self.on_event: list[Callable[[Event], None]] = []
        """Each is called at once with every event of this host; must not raise."""

    def emit(
        self,
        kind: str,
        subject: str,
        message: str,
        severity: Severity = Severity.INFO,
        evidence: dict[str, Any] | None = None,
        task: str = "",
        by: str = "",
    ) -> None:
        """Never blocks, never raises: an event that cannot be kept must not stop what it tells of."""
        try:
            event = Event(
                id=self._ids.next(),
                at=self._clock.now_iso(),
                kind=kind,
                severity=severity,
                host=self._host,
                subject=subject,
                message=message,
                evidence=evidence or {},
                task=task,
                by=by,
            )
            event.model_dump_json()
        except (ValueError, TypeError):
            log.exception("an event could not be written down: %s %s %s", kind, subject, message)
            return
        log.log(LEVELS[event.severity], "%s %s: %s", kind, subject, message)
        if len(self._queue) == QUEUED:
            log.warning("the registry has been away for long: event %s is dropped", self._queue[0].id)
        self._queue.append(event)
        self._recent.append(event)
        self._wake.set()
        for told in self.on_event:
            told(event)

    def own(self) -> dict[str, Event]:
        """The last events of this host, by id."""
        return {event.id: event for event in self._recent}

    async def list(
        self, *, after: str = "", limit: int = 200, subject: str = "", vm: str = "", host: str = "", kind: str = ""
    ) -> list[Event]:
        """Oldest first. With `after` the first `limit` newer than that id, else the newest `limit`. The others
        choose as `Event.is_wanted`. Without the registry: those this host saw itself."""
        found = {e.id: e for e in self._recent}
        try:
            for prefix in buckets(after, self._ids.now_ms()):
                for entry in await self._registry.list(PREFIX + prefix, stale_ok=True):
                    event = read_event(entry)
                    if event is not None:
                        found[event.id] = event
        except Unreachable:
            log.debug("events from this host only: the registry does not answer")
        newer = [found[i] for i in sorted(found) if i > after]
        events = [e for e in newer if e.is_wanted(subject=subject, vm=vm, host=host, kind=kind)]
        return events[:limit] if after else events[-limit:] if limit else []

    async def run(self) -> None:
        """Write what was emitted, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._write_queued()
            except ZugvogelError as error:
                log.debug("events wait for the registry: %s", error)
                await self._clock.sleep(RETRY_S)
                self._wake.set()

    async def drain(self, timeout_s: float = 3.0) -> None:
        """Before the agent stops: write what is queued, if the registry answers."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._write_queued()
        except (TimeoutError, ZugvogelError):
            log.info("%d events were not written to the registry", len(self._queue))

    async def _write_queued(self) -> None:
        while self._queue:
            event = self._queue[0]
            await self._registry.put(PREFIX + event.id, event.model_dump_json().encode())
            if self._queue and self._queue[0] is event:
                self._queue.popleft()
            self._until_trim -= 1
            if self._until_trim <= 0:
                await self._trim()
                self._until_trim = TRIM_EVERY

    async def _trim(self) -> None:
        entries = await self._registry.list(PREFIX, stale_ok=True)
        for entry in entries[:-KEPT]:
            await self._registry.delete(entry.key)


def read_event(entry: Entry) -> Event | None:
    try:
        return Event.model_validate_json(entry.value)
    except ValidationError:
        log.warning("an event in the registry cannot be read")
        return None
