"""High availability of a host, put together over its other services. No decisions here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from zugvogel.domain.host import Host
from zugvogel.domain.settings import ENABLED, ISOLATION_ADDRESSES
from zugvogel.ports.clock import Clock
from zugvogel.ports.fence import Fences
from zugvogel.ports.guard import Guard
from zugvogel.ports.peers import Handler
from zugvogel.ports.pinger import Pinger
from zugvogel.ports.storage import MountedDatastore
from zugvogel.services.beats import BeatService
from zugvogel.services.cluster_view import ClusterView
from zugvogel.services.events import EventLog
from zugvogel.services.ha.active_primary import ActivePrimary
from zugvogel.services.ha.answering import GuestAnswers
from zugvogel.services.ha.failover import Failover
from zugvogel.services.ha.fencing import Fencing
from zugvogel.services.ha.guarding import Guarding
from zugvogel.services.ha.holding import Holding
from zugvogel.services.ha.isolation import Isolation
from zugvogel.services.ha.monitoring import VmMonitoring
from zugvogel.services.ha.responses import IsolationResponses
from zugvogel.services.ha.restart_orders import Caller
from zugvogel.services.ha.starting import StartOrders
from zugvogel.services.ha.thawing import Thawing
from zugvogel.services.heartbeats import HeartbeatService
from zugvogel.services.inventory import Inventory
from zugvogel.services.local_vms import LocalVms
from zugvogel.services.operations.ha import HaKnowledge
from zugvogel.services.suspend.quick import QuickMigrations
from zugvogel.services.suspend.resuming import Resumer
from zugvogel.services.tasks import TaskBoard
from zugvogel.services.ticking import run_all_every


@dataclass(frozen=True, slots=True)
class HaWorld:
    """The ports and services of a host that high availability works with."""

    name: str
    boot_id: str
    clock: Clock
    guard: Guard
    pinger: Pinger
    fences: Fences
    failpoint: Callable[[str], Awaitable[None]]
    inventory: Inventory
    tasks: TaskBoard
    events: EventLog
    beats: BeatService
    heartbeats: HeartbeatService
    view: ClusterView
    vms: LocalVms
    quick: QuickMigrations
    resumer: Resumer
    stores: Callable[[], list[MountedDatastore]]
    obeyed: Callable[[], list[MountedDatastore]]
    call: Caller
    interval_s: Callable[[], float]
    detection_time_ms: Callable[[], int]


class HaServices:
    def __init__(self, world: HaWorld) -> None:
        self._w = w = world
        self.isolation = Isolation(
            w.name,
            w.clock,
            pinger=w.pinger,
            heartbeats=w.heartbeats,
            events=w.events,
            hosts=w.inventory.hosts,
            interval_s=w.interval_s,
            detection_time_ms=w.detection_time_ms,
            addresses=self._addresses,
            uses_gateway=lambda: bool(w.inventory.setting("das.usedefaultisolationaddress")),
        )
        self.role = ActivePrimary(
            w.name,
            w.boot_id,
            w.clock,
            datastores=w.stores,
            beats=w.beats,
            events=w.events,
            hosts=w.inventory.hosts,
            interval_s=w.interval_s,
            detection_time_ms=w.detection_time_ms,
            is_isolated=self.isolation.is_isolated,
            silence_s=w.heartbeats.silence_s,
        )
        self.fencing = Fencing(w.name, w.fences)
        self._guard(w)
        self._judge(w)
        self.monitoring = VmMonitoring(w.vms, w.beats.usable)

    def _guard(self, w: HaWorld) -> None:
        self.guarding = Guarding(w.vms, w.beats, w.heartbeats, w.guard)
        w.vms.on_admitted = self.guarding.tell
        w.vms.may_run = self.guarding.may_run
        self.thawing = Thawing(w.vms, w.beats, self.guarding)
        self.holding = Holding(w.vms, w.beats, self.guarding, self.thawing)

    def _judge(self, w: HaWorld) -> None:
        self.failover = Failover(
            host=w.name,
            clock=w.clock,
            inventory=w.inventory,
            stores=w.stores,
            statuses=w.view.judged,
            is_silent=w.beats.is_silent,
            is_silent_since=w.beats.silent_since_reading,
            is_guarded=w.beats.is_guarded,
            role=self.role,
            call=w.call,
            events=w.events,
            fences=self.fencing,
        )
        self.answers = GuestAnswers(w.vms)
        self.starting = StartOrders(
            w.vms,
            w.resumer,
            w.obeyed,
            is_enabled=lambda: bool(w.inventory.setting(ENABLED)),
            usable=w.beats.usable,
            tell_now=w.heartbeats.tick,
            failpoint=w.failpoint,
            on_run=self.answers.began,
        )
        self.responses = IsolationResponses(
            w.vms,
            w.quick,
            w.tasks,
            w.stores,
            is_isolated=self.isolation.is_isolated,
            is_enabled=lambda: bool(w.inventory.setting(ENABLED)),
        )

    def _addresses(self) -> list[str]:
        found = (str(self._w.inventory.setting(name)) for name in ISOLATION_ADDRESSES)
        return [address for address in found if address]

    def knowledge(self, has_fence: Callable[[str], bool]) -> HaKnowledge:
        return HaKnowledge(
            judges=self.role,
            restarts=self.failover,
            guard=self.guarding,
            beats=self._w.beats,
            hearing=self._w.heartbeats,
            explain_host=self._w.view.explain,
            has_fence=has_fence,
        )

    def handlers(self) -> dict[str, Handler]:
        return {**self.starting.handlers(), **self.answers.handlers()}

    # running ---------------------------------------------------------------------------------------

    async def watching(self) -> None:
        """From the very start of the agent: what it tells others, and what it knows of itself."""
        w = self._w
        ticks = {
            "beats": w.beats.tick,
            "heartbeats": w.heartbeats.tick,
            "isolation": self.isolation.tick,
            "guard": self.guarding.tick,
            "leases of running vms": self.holding.tick,
        }
        try:
            await run_all_every(w.clock, w.interval_s, ticks)
        finally:
            for service in (w.beats, w.heartbeats, self.isolation):
                service.close()
            await self.holding.stop()

    async def judging(self) -> None:
        """Once the agent knows its vms."""
        ticks = {"active primary": self.role.tick, "failover": self.failover.tick}
        try:
            await run_all_every(self._w.clock, self._w.interval_s, ticks)
        finally:
            self.role.close()
            await self.failover.stop()

    def each_second(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """As `judging`, whatever the interval. None of these waits."""
        return {
            "orders to start": self.starting.tick,
            "isolation orders": self.responses.tick,
            "vm monitoring": self.monitoring.tick,
            "answers of restarted vms": self.answers.tick,
        }

    async def stop_each_second(self) -> None:
        self.monitoring.close()
        self.answers.close()
        await self.starting.stop()
        await self.responses.stop()


def has_fence(hosts: Callable[[], list[Host]]) -> Callable[[str], bool]:
    """Whether a device that can cut its power is configured for the named host."""
    return lambda name: any(h.name == name and h.fence is not None for h in hosts())
