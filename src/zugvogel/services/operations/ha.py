"""Operations: high availability as a whole: its state, on and off, what a failure would do, and why hosts and vms
are where they are.

Only primaries judge, so a secondary hands questions about judging on to a primary. What each host knows of itself
alone (its guard, its fence) it is asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from zugvogel.core import protections
from zugvogel.core.death_proof import nothing_given_up, proof_of
from zugvogel.core.explaining import HaSettings, explain_vm
from zugvogel.domain.guard import GuardReport
from zugvogel.domain.ha import Capacity, Explanation, FailoverPlan, HaStatus, IsolationResponse, Protection
from zugvogel.domain.host import HostStatus, Role, Verdict
from zugvogel.domain.lease import Lease, LeaseState
from zugvogel.domain.settings import DETECTION_TIME, ENABLED
from zugvogel.domain.task import Severity
from zugvogel.errors import NotFound, Refused, Unreachable, ZugvogelError
from zugvogel.ports.caller import asked_by
from zugvogel.services.ha.admission import Admission
from zugvogel.services.inventory import Inventory
from zugvogel.services.operations.world import World

ASK_S = 3.0
GUARDS_S = 6.0
"""How long enabling waits for the guards, which it has started, to tick."""

REACHABLE = {Verdict.LIVE, Verdict.STORAGE_LOST, Verdict.MAINTENANCE}

Subject = Literal["host", "vm"]


class Judges(Protocol):
    def judge_of(self, datastore: str) -> str | None:
        """The host that judges there, as this host last saw it."""


class Restarts(Protocol):
    def waiting(self) -> tuple[str, ...]:
        """Vms whose restart this host owes as the judge, each with the reason in a sentence."""

    def why_waiting(self, vm: str) -> str:
        """Empty: this host owes it no restart."""


class GuardSight(Protocol):
    def report(self) -> GuardReport | None: ...
    def is_ticking(self) -> bool: ...
    def is_armed(self) -> bool: ...


class BeatSight(Protocol):
    def names(self) -> tuple[str, ...]: ...
    def usable(self, datastore: str) -> tuple[bool, str]: ...
    def own_age_s(self, datastore: str) -> float | None: ...
    def latency_s(self, datastore: str) -> float: ...


class HearingSight(Protocol):
    def hears(self) -> tuple[str, ...]:
        """Hosts whose heartbeats come."""


@dataclass(frozen=True, slots=True)
class HaKnowledge:
    """What the services of a host know. `explain_host` asks a primary where this host is none. `has_fence`: a
    device can cut the power of the named host."""

    judges: Judges
    restarts: Restarts
    guard: GuardSight
    beats: BeatSight
    hearing: HearingSight
    explain_host: Callable[[str], Awaitable[Explanation]]
    has_fence: Callable[[str], bool]


def ha_settings(inventory: Inventory) -> HaSettings:
    kept = {store.name: nothing_given_up(proof_of(store)) for store in inventory.datastores()}
    return HaSettings(
        is_enabled=bool(inventory.setting(ENABLED)),
        apd_timeout_s=inventory.number("das.apdtimeout"),
        response=IsolationResponse(str(inventory.setting("das.isolationresponse"))),
        kept_on={name: why for name, why in kept.items() if why},
    )


class HaOperations:
    def __init__(self, world: World, knowledge: HaKnowledge) -> None:
        self._w = world
        self._knows = knowledge
        self._room = Admission(world.inventory, world.clock)
        world.handlers.update(
            {
                "ha.status": self._on_status,
                "ha.explain": self._on_explain,
                "ha.waiting": self._on_waiting,
                "ha.protections": self._on_protections,
            }
        )

    # its state -------------------------------------------------------------------------------------

    async def ha_status(self) -> HaStatus:
        return HaStatus.model_validate(await self._on_primary("ha.status", {}))

    async def _on_status(self, payload: dict[str, Any]) -> dict[str, Any]:
        self._refuse_on_secondary()
        inventory, statuses = self._w.inventory, await self._w.statuses()
        judges = {d.name: self._knows.judges.judge_of(d.name) for d in inventory.datastores()}
        waiting, found = await asyncio.gather(
            self._waiting({judge for judge in judges.values() if judge}), self._protections(statuses)
        )
        status = HaStatus(
            enabled=bool(inventory.setting(ENABLED)),
            active_primary=next(iter(judges.values()), None),
            active_primaries=judges,
            failover_level=inventory.number("das.failoverlevel"),
            admission=await self.capacity(statuses),
            detection_time_ms=inventory.number(DETECTION_TIME),
            protections=found,
            restarting=waiting,
        )
        return status.model_dump(mode="json")

    async def capacity(self, statuses: Sequence[HostStatus]) -> Capacity:
        found = await self._room.capacity(statuses)
        if self._w.inventory.setting(ENABLED):
            return found
        return found.model_copy(update={"why": "no room is kept free while high availability is disabled"})

    async def _waiting(self, judges: set[str]) -> tuple[str, ...]:
        """Of all judges; one that does not answer is told as such."""
        told: list[str] = []
        for judge in sorted(judges):
            try:
                answer = await self._w.on(judge, "ha.waiting", {}, timeout_s=ASK_S)
                told += [str(sentence) for sentence in answer["waiting"]]
            except ZugvogelError as error:
                told.append(f"what {judge}, an active primary, has under way is not known: {error.cause}")
        return tuple(told)

    async def _on_waiting(self, payload: dict[str, Any]) -> dict[str, Any]:
        return {"waiting": list(self._knows.restarts.waiting())}

    # what protects ---------------------------------------------------------------------------------

    async def _protections(self, statuses: Sequence[HostStatus]) -> tuple[Protection, ...]:
        of_hosts = await asyncio.gather(*(self._protections_of(status) for status in statuses))
        of_datastores = [protections.of_datastore(d) for d in self._w.inventory.datastores()]
        return tuple(p for found in (*of_hosts, *of_datastores) for p in found)

    async def _protections_of(self, status: HostStatus) -> tuple[Protection, ...]:
        host = status.host.name
        fence = protections.of_fence(host, self._knows.has_fence(host))
        return (*await self._guard_of(status), fence)

    async def _guard_of(self, status: HostStatus) -> tuple[Protection, ...]:
        host = status.host.name
        if host != self._w.me and status.verdict not in REACHABLE:
            return protections.unknown(host, f"{host} is {status.verdict}, so it was not asked")
        try:
            answer = await self._w.on(host, "ha.protections", {}, timeout_s=ASK_S)
        except ZugvogelError as error:
            return protections.unknown(host, error.cause)
        return tuple(Protection.model_validate(item) for item in answer["protections"])

    async def _on_protections(self, payload: dict[str, Any]) -> dict[str, Any]:
        guard = self._knows.guard
        found = protections.of_guard(self._w.me, guard.report(), is_ticking=guard.is_ticking())
        return {"protections": [p.model_dump(mode="json") for p in found]}

    # on and off ------------------------------------------------------------------------------------

    async def enable_ha(self) -> HaStatus:
        """The status tells which protections are missing; none of them is needed for enabling."""
        if not self._w.inventory.datastores():
            raise Refused(
                "the cluster has no datastore, and hosts are judged by their beats on one",
                "add one that every host shares: zv datastore add NAME PATH",
            )
        was_enabled = bool(self._w.inventory.setting(ENABLED))
        await self._w.inventory.set_setting(ENABLED, True)
        if not was_enabled:
            name = self._w.inventory.cluster().name
            self._w.events.emit("ha.enabled", name, "high availability is enabled", by=asked_by())
        return await self._guarded()

    async def _guarded(self) -> HaStatus:
        """Guards are started by enabling: they get a moment to tick before they are told as missing."""
        deadline = self._w.clock.monotonic() + GUARDS_S
        while True:
            status = await self.ha_status()
            live = {s.host.name for s in await self._w.statuses() if s.verdict is Verdict.LIVE}
            guards = [p for p in status.protections if p.name == protections.GUARD and p.subject in live]
            if all(p.is_present for p in guards) or self._w.clock.monotonic() > deadline:
                return status
            await self._w.clock.sleep(0.5)

    async def disable_ha(self) -> HaStatus:
        """Beats and verdicts go on; nothing is restarted, no isolation response runs, no guard freezes."""
        was_enabled = bool(self._w.inventory.setting(ENABLED))
        await self._w.inventory.set_setting(ENABLED, False)
        if was_enabled:
            told = "high availability is disabled: vms of failed hosts are not restarted"
            name = self._w.inventory.cluster().name
            self._w.events.emit("ha.disabled", name, told, severity=Severity.WARNING, by=asked_by())
        return await self.ha_status()

    # what would be, and why ------------------------------------------------------------------------

    async def ha_plan(self, hosts: Sequence[str]) -> FailoverPlan:
        """Who would restart where if `hosts` failed now. Raises NotFound."""
        wanted = tuple(dict.fromkeys(hosts))
        fenced = frozenset(host for host in wanted if self._knows.has_fence(host))
        return self._room.plan(wanted, await self._w.statuses(), fenced)

    async def explain(self, subject: str, kind: Subject | None = None) -> Explanation:
        """`kind` None: a host where there is one of that name, else a vm. Raises NotFound."""
        if (kind or self._kind_of(subject)) == "host":
            return await self._knows.explain_host(subject)
        judge = self._knows.judges.judge_of(self._w.inventory.vm(subject).datastore) or ""
        return Explanation.model_validate(await self._on_primary("ha.explain", {"vm": subject}, first=judge))

    def _kind_of(self, subject: str) -> Subject:
        if any(h.name == subject for h in self._w.inventory.hosts()):
            return "host"
        if any(v.definition.name == subject for v in self._w.inventory.vms()):
            return "vm"
        raise NotFound(f"there is no host and no vm {subject}", "see: zv host list, and: zv vm list")

    async def _on_explain(self, payload: dict[str, Any]) -> dict[str, Any]:
        self._refuse_on_secondary()
        record = self._w.inventory.vm(str(payload["vm"]))
        name = record.definition.name
        lease = await self._w.mounted(record.datastore).leases.read(name)
        hosts = {status.host.name: status for status in await self._w.statuses()}
        answer = await self._answer_of(name, lease, hosts)
        found = explain_vm(record, lease, hosts, ha_settings(self._w.inventory), judge=self._w.me, answer=answer)
        if waits := self._knows.restarts.why_waiting(name):
            found = found.model_copy(update={"follows": f"{found.follows}; now: {waits}"})
        return found.model_dump(mode="json")

    async def _answer_of(self, vm: str, lease: Lease | None, hosts: Mapping[str, HostStatus]) -> str:
        """What the host that runs it knows of its guest, in a sentence; empty: it did not restart it, or is not
        reached."""
        runs = lease is not None and lease.state is LeaseState.RUNNING and lease.holder is not None
        host = lease.holder.host if runs and lease is not None and lease.holder is not None else ""
        if host not in hosts or hosts[host].verdict not in REACHABLE:
            return ""
        try:
            answer = await self._w.on(host, "ha.answer", {"vm": vm}, timeout_s=ASK_S)
        except ZugvogelError:
            return ""
        return str(answer.get("told", ""))

    # asking primaries ------------------------------------------------------------------------------

    async def _on_primary(self, command: str, payload: dict[str, Any], *, first: str = "") -> dict[str, Any]:
        """The answer of `first`, of this host, or of the first primary that gives one."""
        causes = []
        for primary in await self._primaries(first):
            try:
                return await self._w.on(primary, command, payload, timeout_s=ASK_S * 3)
            except NotFound:
                raise
            except (Unreachable, Refused) as error:  # refused: it is no primary any more
                causes.append(error.cause)
        raise Unreachable(
            "no primary answers: " + ("; ".join(causes) or "none is live"), "see which are down: zv host list"
        )

    async def _primaries(self, first: str) -> list[str]:
        """This host is asked whatever its verdict: cut off it still knows what it sees."""
        primaries = [s for s in await self._w.statuses() if s.host.role is Role.PRIMARY]
        asked = [s.host.name for s in primaries if s.verdict in REACHABLE or s.host.name == self._w.me]
        return sorted(asked, key=lambda name: (name != first, name != self._w.me))

    def _refuse_on_secondary(self) -> None:
        if self._w.host().role is not Role.PRIMARY:
            raise Refused(f"{self._w.me} is a secondary and judges nobody", "ask a primary")
