"""Which host starts a vm, and whether it may take that room.

Reports are a second old, so a start that was decided on counts here until its host tells of it. All hosts ask the
same one to decide, an active primary, one after the other; a host that gets no answer decides by itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from zugvogel.core import placement
from zugvogel.core.starts import Begun, as_begun, is_seen
from zugvogel.domain.host import HostStatus, Verdict
from zugvogel.domain.migration import Candidate
from zugvogel.domain.placing import PlaceWish, Placing
from zugvogel.domain.task import Severity
from zugvogel.domain.vm import VmDefinition, VmRecord
from zugvogel.errors import NotFound, Refused, Unreachable
from zugvogel.services.ha.admission import Admission
from zugvogel.services.operations.world import World

log = logging.getLogger(__name__)

BEGUN_S = 10.0
"""So long a start counts that its host does not tell of: it has failed by then, or was never asked for."""


class Placements:
    def __init__(self, world: World) -> None:
        self._w = world
        self._admission = Admission(world.inventory, world.clock)
        self._turn = asyncio.Lock()
        self._begun: dict[str, tuple[Begun, float]] = {}
        """vm -> its start, and the instant from which it counts no more."""
        world.handlers["vm.place"] = self._on_place

    async def place(self, wish: PlaceWish) -> Placing:
        """Refused when no host is fit, or may be used up so far."""
        decider = await self._decider()
        if decider != self._w.me:
            try:
                answer = await self._w.on(decider, "vm.place", wish.model_dump(mode="json"))
                return Placing.model_validate(answer)
            except (NotFound, Unreachable) as error:  # not found: its copy of the registry is older than ours
                log.warning("%s is placed without %s: %s", wish.record.definition.name, decider, error)
        return await self._decide(wish)

    async def refuse_new(self, definition: VmDefinition, datastore: str, *, otherwise: str) -> None:
        """Raises Refused when such a vm, once started, would take room kept for failures, or have none. Never
        while high availability is off. Its networks do not count: they may be made later."""
        if not self._admission.level():
            return
        record = VmRecord(definition=definition.model_copy(update={"nics": ()}), datastore=datastore)
        statuses = self._as_begun(await self._w.statuses(), definition.name)
        hosts = self._fit(record, statuses, PlaceWish(record=record, what="be started", otherwise=otherwise))
        await self._admission.admit(record, [c.host for c in hosts], statuses, otherwise)

    def tell_overridden(self, vm: str, done: str, why: str, task: str = "") -> None:
        """`done`: what was done with it all the same ("started")."""
        told = f"{vm} was {done} although {why}"
        self._w.events.emit("ha.admission-overridden", vm, told, severity=Severity.WARNING, task=task)

    async def _decider(self) -> str:
        """The same for all who see the same: the first active primary. This host where there is none."""
        statuses = await self._w.statuses()
        active = [s.host.name for s in statuses if s.is_active_primary and s.verdict is Verdict.LIVE]
        return active[0] if active else self._w.me

    async def _on_place(self, payload: dict[str, Any]) -> dict[str, Any]:
        return (await self._decide(PlaceWish.model_validate(payload))).model_dump(mode="json")

    async def _decide(self, wish: PlaceWish) -> Placing:
        record, name = wish.record, wish.record.definition.name
        async with self._turn:
            statuses = self._as_begun(await self._w.statuses(), name)
            fit = self._fit(record, statuses, wish)
            host, overridden = fit[0].host, ""
            if wish.is_admitted:
                hosts = [c.host for c in fit]
                try:
                    host = await self._admission.admit(record, hosts, statuses, wish.otherwise)
                except Refused as error:
                    if not wish.is_forced:
                        raise
                    overridden = error.cause
            self._begun[name] = Begun(record, host), self._w.clock.monotonic() + BEGUN_S
        why = next(c.why for c in fit if c.host == host)
        return Placing(host=host, why="asked for" if wish.host else why, overridden=overridden)

    def _as_begun(self, statuses: Sequence[HostStatus], but: str) -> list[HostStatus]:
        """With the starts that were decided on and are not told of yet, all `but` this vm's."""
        now, by_host = self._w.clock.monotonic(), {s.host.name: s for s in statuses}
        for name, (start, until) in list(self._begun.items()):
            status = by_host.get(start.host)
            if now >= until or status is None or is_seen(status, name):
                del self._begun[name]
        records = {r.definition.name: r for r in self._w.inventory.vms()}
        return as_begun(statuses, records, [s for name, (s, _) in self._begun.items() if name != but])

    def _fit(self, record: VmRecord, statuses: Sequence[HostStatus], wish: PlaceWish) -> list[Candidate]:
        """Hosts that can take it, best first. Raises Refused when there is none, or not the one that is wished."""
        definition, what = record.definition, wish.what
        networks = [self._w.inventory.network(n.network) for n in definition.nics]
        groups = {v.definition.name: v.definition.ha.anti_affinity for v in self._w.inventory.vms()}
        promises = placement.promises_of({vm: group for vm, group in groups.items() if group}, statuses)
        weighed = placement.weigh(definition, record.datastore, networks, statuses, promises=promises)
        told = [
            c.model_copy(update={"is_fit": False, "why": f"refused it: {wish.refused[c.host]}"})
            if c.host in wish.refused
            else c
            for c in weighed
        ]
        if wish.host is not None:
            self._w.inventory.host(wish.host)
            chosen = next(c for c in told if c.host == wish.host)
            if not chosen.is_fit:
                raise Refused(f"{wish.host} cannot run {definition.name}: it {chosen.why}", "choose another host")
            return [chosen]
        fit = [c for c in told if c.is_fit]
        if not fit:
            forced = f"; or {wish.otherwise}" if wish.otherwise and not wish.is_admitted else ""
            cause = f"{definition.name} cannot {what}: {placement.explain_none(told)}"
            raise Refused(cause, f"free resources or add a host{forced}")
        return fit
