"""Network heartbeats, each interval (H1): every host to every primary (P3), and the primaries to the secondaries,
so that these too hear somebody while they are not cut off. Never secondary to secondary: with n hosts that is
about 10 n datagrams an interval.

A heartbeat carries the digest of the host's report, for a few beats after a change the report itself. The
receiver that holds another digest asks for the report by RPC (`report.get`), so that one lost or too large
datagram costs a round trip and nothing else. Digests are opaque to the receiver: the sender makes them. What
goes to secondaries, which judge nobody, is the sign of life alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from zugvogel.domain.host import Heartbeat, Host, HostReport, Role
from zugvogel.errors import NotFound, ZugvogelError
from zugvogel.ports.clock import Clock
from zugvogel.ports.peers import Handler, HeartbeatSender, Peers
from zugvogel.services.ticking import Gaps

log = logging.getLogger(__name__)

HEARD_INTERVALS = 3
FULL_REPORTS = 2
"""Heartbeats after a change that carry the whole report."""


@dataclass(slots=True)
class Heard:
    """The last heartbeat of a host, `at` on this host's monotonic clock, and the last report known.
    `differs_since`: the first heartbeat, since that report came, that told of another; None: none did.
    `boot_since`: the first one of that boot. It is brought up to date with each heartbeat."""

    heartbeat: Heartbeat
    at: float
    boot_since: float
    report: HostReport | None = None
    report_digest: str = ""
    differs_since: float | None = None


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
        self.may_send: Callable[[], bool] = lambda: True
        """Set by whoever puts the services together, who knows whether another machine has this host's name."""
        self._sequence = 0
        self._listening_since = clock.monotonic()
        self._gaps = Gaps(clock, interval_s, HEARD_INTERVALS)
        self._own: HostReport | None = None
        self._own_digest = ""
        self._full_left = 0
        self._sign_of_life = self._last = Heartbeat(
            host=host,
            boot_id=boot_id,
            sequence=0,
            digest="",
            load1=0.0,
            memory_available_bytes=0,
            beats={},
            hears=(),
            report=None,
        )
        self._listed: list[Host] = []
        self._known: dict[str, Host] = {}
        self._primaries: list[Host] = []
        self._secondaries: list[Host] = []
        self._heard: dict[str, Heard] = {}
        self._names: list[str] = []
        """Of `_heard`, sorted."""
        self._last_heard_at: float | None = None
        self.taken = 0
        """Counts heartbeats and reports that were taken in."""
        self._fetches: dict[str, asyncio.Task[None]] = {}
        self._fetch_failures: dict[str, str] = {}

    def close(self) -> None:
        """Requests under way are cut off."""
        for fetch in self._fetches.values():
            fetch.cancel()

    async def tick(self) -> None:
        """Belongs to each interval. Send one heartbeat to every primary but this host; a primary also to every
        secondary."""
        if self._gaps.tick():
            self._listening_since = self._clock.monotonic()
        if not self.may_send():
            return
        self._know()
        heartbeat = self._next()
        self._sender.send(self._primaries, heartbeat)
        me = self._known.get(self._host)
        if self._secondaries and me is not None and me.role is Role.PRIMARY:
            self._sender.send(self._secondaries, self._sign_of_life.replaced(sequence=self._sequence))

    def receive(self, heartbeat: Heartbeat) -> None:
        """Take in a verified heartbeat. Those of hosts that are not of the cluster are dropped."""
        name = heartbeat.host
        if name not in self._heard and not self._is_of_another(name):  # who was heard is known
            return
        now = self._last_heard_at = self._clock.monotonic()
        self.taken += 1
        if name not in self._heard:
            insort(self._names, name)
            self._heard[name] = Heard(heartbeat, now, boot_since=now)
        heard = self._heard[name]
        if heard.heartbeat.boot_id != heartbeat.boot_id:
            heard.boot_since = now
        heard.heartbeat, heard.at = heartbeat, now
        if heartbeat.report is not None:
            heard.report, heard.report_digest = heartbeat.report, heartbeat.digest
        if heartbeat.digest in ("", heard.report_digest):
            heard.differs_since = None
            return
        heard.differs_since = heard.differs_since or now
        if name not in self._fetches:
            self._fetches[name] = asyncio.create_task(self._fetch(self._known[name]))

    @property
    def listening_since(self) -> float:
        """Silence before this instant proves nothing: this host did not run, or hung, before it."""
        return self._listening_since

    def heard(self, host: str) -> Heard | None:
        return self._heard.get(host)

    def last_heard_at(self) -> float | None:
        """When any other host was heard last, on this host's clock. None: nobody was yet."""
        return self._last_heard_at

    def silence_s(self) -> float:
        """Since any other host was heard, or since this one listens."""
        since = self._listening_since
        return self._clock.monotonic() - (
            since if self._last_heard_at is None else max(since, self._last_heard_at)
        )

    def hears(self) -> tuple[str, ...]:
        """Hosts heard within the last three intervals, sorted."""
        since = self._clock.monotonic() - HEARD_INTERVALS * self._interval_s()
        heard = self._heard
        return tuple([name for name in self._names if heard[name].at >= since])

    def handlers(self) -> dict[str, Handler]:
        return {"report.get": self._answer_report}

    def _is_of_another(self, name: str) -> bool:
        """A host of the cluster that is not this one."""
        if name not in self._known:
            self._know()
        return name in self._known and name != self._host

    def _know(self) -> None:
        """Take the cluster's hosts anew: once an interval, and for an unknown name; heartbeats are many."""
        hosts = self._hosts()
        is_same, self._listed = hosts == self._listed, hosts  # the same objects are compared at a glance
        if is_same:
            return
        self._known = {host.name: host for host in hosts}
        self._primaries = [h for h in hosts if h.role is Role.PRIMARY and h.name != self._host]
        self._secondaries = [h for h in hosts if h.role is Role.SECONDARY and h.name != self._host]
        if gone := self._heard.keys() - self._known.keys():
            self._heard = {name: heard for name, heard in self._heard.items() if name not in gone}
            self._names = sorted(self._heard)

    def _next(self) -> Heartbeat:
        self._sequence += 1
        self._refresh_own()
        is_full = self._full_left > 0
        self._full_left -= is_full
        load = self._load()
        # Copied, not validated: these are this host's own values.
        self._last = self._last.replaced(
            sequence=self._sequence,
            digest=self._own_digest,
            load1=load.load1,
            memory_available_bytes=load.memory_available_bytes,
            beats=self._beat_counters(),
            hears=self.hears(),
            report=self._own if is_full else None,
        )
        return self._last

    def _refresh_own(self) -> None:
        report = self._report()
        if report is None or report is self._own or report == self._own:
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
                self.taken += 1
                heard.report, heard.report_digest, heard.differs_since = report, str(answer["digest"]), None
            self._fetch_failures.pop(host.name, None)
        except (ZugvogelError, ValueError, KeyError) as error:
            # The next heartbeat asks again; the cause is told once.
            if self._fetch_failures.get(host.name) != str(error):
                log.warning("report of %s: %s", host.name, error)
            self._fetch_failures[host.name] = str(error)
        finally:
            self._fetches.pop(host.name, None)
