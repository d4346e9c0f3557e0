"""Network heartbeats: every host to every primary, each interval (H1, P3).

A heartbeat carries the digest of the host's report, for a few beats after a change the report itself. The
receiver that holds another digest asks for the report by RPC (`report.get`), so that one lost or too large
datagram costs a round trip and nothing else. Digests are opaque to the receiver: the sender makes them.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from zugvogel.domain.host import Heartbeat, Host, HostReport, Role
from zugvogel.errors import NotFound, ZugvogelError
from zugvogel.ports.clock import Clock
from zugvogel.ports.peers import Handler, HeartbeatSender, Peers
from zugvogel.services.ticking import run_every

log = logging.getLogger(__name__)

HEARD_INTERVALS = 3
FULL_REPORTS = 2
"""Heartbeats after a change that carry the whole report."""


@dataclass(frozen=True, slots=True)
class Heard:
    """The last heartbeat of a host, `at` on this host's monotonic clock, and the last report known."""

    heartbeat: Heartbeat
    at: float
    report: HostReport | None
    report_digest: str


@dataclass(frozen=True, slots=True)
class Load:
    """Figures that change every second and so are kept out of the report."""

    load1: float
    memory_available_bytes: int


class HeartbeatService:
    """`report` gives the host's own report, None until it is known. `hosts` are all of the cluster."""

    def __init__(
        self,
        host: str,
        boot_id: str,
        clock: Clock,
        *,
        hosts: Callable[[], list[Host]],
        sender: HeartbeatSender,
        peers: Peers,
        report: Callable[[], HostReport | None],
        load: Callable[[], Load],
        beat_counters: Callable[[], dict[str, int]],
        interval_s: Callable[[], float],
    ) -> None:
        self._host = host
        self._boot_id = boot_id
        self._clock = clock
        self._hosts = hosts
        self._sender = sender
        self._peers = peers
        self._report = report
        self._load = load
        self._beat_counters = beat_counters
        self._interval_s = interval_s
        self._sequence = 0
        self._listening_since = clock.monotonic()
        self._ticked_at = self._listening_since
        self._own: HostReport | None = None
        self._own_digest = ""
        self._full_left = 0
        self._heard: dict[str, Heard] = {}
        self._fetches: dict[str, asyncio.Task[None]] = {}
        self._fetch_failures: dict[str, str] = {}

    async def run(self) -> None:
        try:
            await run_every(self._clock, self._interval_s, self.tick, "heartbeats")
        finally:
            for fetch in self._fetches.values():
                fetch.cancel()

    async def tick(self) -> None:
        """Send one heartbeat to every primary but this host."""
        now = self._clock.monotonic()
        if now - self._ticked_at > HEARD_INTERVALS * self._interval_s():
            self._listening_since = now
        self._ticked_at = now
        heartbeat = self._next()
        hosts = self._hosts()
        for host in hosts:
            if host.role is Role.PRIMARY and host.name != self._host:
                self._sender.send(host, heartbeat)
        for gone in self._heard.keys() - {host.name for host in hosts}:
            del self._heard[gone]

    def receive(self, heartbeat: Heartbeat) -> None:
        """Take in a verified heartbeat. Those of hosts that are not of the cluster are dropped."""
        host = next((h for h in self._hosts() if h.name == heartbeat.host), None)
        if host is None or host.name == self._host:
            return
        before = self._heard.get(host.name)
        report, digest = (before.report, before.report_digest) if before else (None, "")
        if heartbeat.report is not None:
            report, digest = heartbeat.report, heartbeat.digest
            heartbeat = heartbeat.model_copy(update={"report": None})
        self._heard[host.name] = Heard(heartbeat, self._clock.monotonic(), report, digest)
        if heartbeat.digest not in {"", digest} and host.name not in self._fetches:
            self._fetches[host.name] = asyncio.create_task(self._fetch(host))

    @property
    def listening_since(self) -> float:
        """Silence before this instant proves nothing: this host did not run, or hung, before it."""
        return self._listening_since

    def heard(self, host: str) -> Heard | None:
        return self._heard.get(host)

    def hears(self) -> tuple[str, ...]:
        """Hosts heard within the last three intervals, sorted."""
        since = self._clock.monotonic() - HEARD_INTERVALS * self._interval_s()
        return tuple(sorted(name for name, heard in self._heard.items() if heard.at >= since))

    def handlers(self) -> dict[str, Handler]:
        return {"report.get": self._answer_report}

    def _next(self) -> Heartbeat:
        self._sequence += 1
        self._refresh_own()
        is_full = self._full_left > 0
        self._full_left = max(0, self._full_left - 1)
        load = self._load()
        return Heartbeat(
            host=self._host,
            boot_id=self._boot_id,
            sequence=self._sequence,
            digest=self._own_digest,
            load1=load.load1,
            memory_available_bytes=load.memory_available_bytes,
            beats=self._beat_counters(),
            hears=self.hears(),
            report=self._own if is_full else None,
        )

    def _refresh_own(self) -> None:
        report = self._report()
        if report is None or report == self._own:
            return
        self._own = report
        self._own_digest = hashlib.sha256(report.model_dump_json().encode()).hexdigest()[:16]
        self._full_left = FULL_REPORTS

    async def _answer_report(self, _payload: dict[str, Any]) -> dict[str, Any]:
        self._refresh_own()
        if self._own is None:
            raise NotFound(f"{self._host} does not know its own facts yet", "ask again in a second")
        return {"digest": self._own_digest, "report": self._own.model_dump(mode="json")}

    async def _fetch(self, host: Host) -> None:
        try:
            answer = await self._peers.call(host, "report.get", {}, timeout_s=5.0)
            report = HostReport.model_validate(answer["report"])
            heard = self._heard.get(host.name)
            if heard is not None and report.host == host.name:
                self._heard[host.name] = Heard(heard.heartbeat, heard.at, report, str(answer["digest"]))
            self._fetch_failures.pop(host.name, None)
        except (ZugvogelError, ValueError, KeyError) as error:
            # The next heartbeat asks again; the cause is told once.
            if self._fetch_failures.get(host.name) != str(error):
                log.warning("report of %s: %s", host.name, error)
            self._fetch_failures[host.name] = str(error)
        finally:
            self._fetches.pop(host.name, None)
