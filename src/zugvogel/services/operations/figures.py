"""Operations: figures for monitoring, and whether this agent can do its part."""

from __future__ import annotations

import asyncio
from collections import Counter

from zugvogel.domain.figures import BeatFigures, Figures, GuardFigures, Judged, Readiness, RegistryFigures
from zugvogel.domain.host import Host, HostStatus, Role
from zugvogel.domain.settings import ENABLED
from zugvogel.domain.task import Event, Task
from zugvogel.errors import NotFound, ZugvogelError
from zugvogel.services.events import PREFIX as EVENTS
from zugvogel.services.events import read_event
from zugvogel.services.operations.ha import HaKnowledge, HaOperations
from zugvogel.services.operations.vms import VmOperations
from zugvogel.services.operations.world import World
from zugvogel.services.recent import Kind, Recent
from zugvogel.services.tally import Tally
from zugvogel.services.tasks import PREFIX as TASKS
from zugvogel.services.tasks import read_task

REGISTRY_S = 1.0
"""A registry that takes longer counts as out of reach."""


class FigureOperations:
    """`vms`, `ha`: for what a primary tells of the whole cluster."""

    def __init__(self, world: World, vms: VmOperations, ha: HaOperations, knowledge: HaKnowledge) -> None:
        self._w = world
        self._all_vms = vms
        self._whole = ha
        self._vitals = knowledge
        self._tally = Tally(world.events, world.tasks)
        tasks = Kind(TASKS, read_task, world.tasks.own, is_final=lambda task: task.state.is_final)
        events = Kind(EVENTS, read_event, world.events.own, are_all_final=True)
        self._recent_tasks = Recent(tasks, world.registry, world.clock)
        self._recent_events = Recent(events, world.registry, world.clock)

    async def recent_tasks(self) -> list[Task]:
        return await self._recent_tasks.newest()

    async def recent_events(self) -> list[Event]:
        return await self._recent_events.newest()

    # figures ---------------------------------------------------------------------------------------

    async def figures(self) -> Figures:
        inventory, me = self._w.inventory, self._me()
        is_primary = me is not None and me.role is Role.PRIMARY
        judged = await self._judged() if is_primary else None
        return Figures(
            host=self._w.me,
            is_primary=is_primary,
            is_ha_enabled=bool(inventory.setting(ENABLED)),
            failover_level=inventory.number("das.failoverlevel"),
            active_primaries={d.name: self._vitals.judges.judge_of(d.name) for d in inventory.datastores()},
            judged=judged,
            beats=tuple(map(self._beat, self._vitals.beats.names())),
            guard=self._guard(),
            registry=await self._registry(),
            vms=tuple(self._w.vms.reports()),
            tasks=Counter(t.state for t in self._w.tasks.own().values() if not t.state.is_final),
            counted=self._tally.counted(),
        )

    def _me(self) -> Host | None:
        """None: this agent does not know its cluster yet."""
        try:
            return self._w.host()
        except NotFound:
            return None

    async def _judged(self) -> Judged:
        statuses = await self._w.statuses()
        return Judged(
            verdicts={s.host.name: s.verdict for s in statuses},
            heartbeat_ages_s=self._ages(statuses),
            capacity=await self._whole.capacity(statuses),
            vms=Counter(vm.state for vm in await self._all_vms.vms()),
            waiting=len(self._vitals.restarts.waiting()),
        )

    def _ages(self, statuses: list[HostStatus]) -> dict[str, float]:
        others = [s for s in statuses if s.host.name != self._w.me]
        return {s.host.name: s.heartbeat_age_s for s in others if s.heartbeat_age_s is not None}

    def _beat(self, datastore: str) -> BeatFigures:
        beats = self._vitals.beats
        return BeatFigures(
            datastore=datastore,
            is_usable=beats.usable(datastore)[0],
            age_s=beats.own_age_s(datastore),
            latency_s=beats.latency_s(datastore),
        )

    def _guard(self) -> GuardFigures:
        guard = self._vitals.guard
        report = guard.report()
        return GuardFigures(
            is_armed=guard.is_armed(),
            is_ticking=guard.is_ticking(),
            frozen=len(report.frozen) if report is not None else 0,
            is_watched=report is not None and report.has_watchdog,
        )

    async def _registry(self) -> RegistryFigures:
        clock = self._w.clock
        started, is_reachable = clock.monotonic(), True
        try:
            async with asyncio.timeout(REGISTRY_S):
                await self._w.registry.get("cluster")
        except (ZugvogelError, TimeoutError):
            is_reachable = False
        return RegistryFigures(
            is_loaded=self._w.inventory.is_loaded.is_set(),
            is_reachable=is_reachable,
            latency_s=clock.monotonic() - started,
            is_member=self._w.is_registry_member(),
        )

    # readiness -------------------------------------------------------------------------------------

    async def readiness(self) -> Readiness:
        if not self._w.inventory.is_loaded.is_set():
            causes = ["it has not read the registry yet"]
        else:
            causes = [*self._unusable(), *self._unheard()]
        return Readiness(host=self._w.me, is_ready=not causes, causes=tuple(causes))

    def _unusable(self) -> list[str]:
        found = []
        for datastore in self._w.inventory.datastores():
            is_usable, why = self._vitals.beats.usable(datastore.name)
            if not is_usable:
                found.append(f"datastore {datastore.name}: {why}")
        return found

    def _unheard(self) -> list[str]:
        others = [h for h in self._w.inventory.hosts() if h.name != self._w.me]
        me, heard = self._me(), set(self._vitals.hearing.hears())
        if me is not None and me.role is Role.PRIMARY:
            return ["it hears no other host"] if others and not heard else []
        primaries = {h.name for h in others if h.role is Role.PRIMARY}
        return [] if primaries & heard else ["it hears no primary"]
