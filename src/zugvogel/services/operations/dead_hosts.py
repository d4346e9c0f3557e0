"""Operations: which vms a host may run, by their leases alone, and releasing them on somebody's word."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, NamedTuple

from zugvogel.core import lease_rules
from zugvogel.core.verdicts import APART
from zugvogel.domain.host import HostStatus, Verdict
from zugvogel.domain.lease import Lease, LeaseState
from zugvogel.domain.settings import DETECTION_TIME
from zugvogel.domain.task import Severity, Task
from zugvogel.domain.vm import VmRecord, VmState
from zugvogel.errors import NotFound, Refused, ZugvogelError
from zugvogel.services.cluster_view import ASK_TIMEOUT_S, CACHED_S
from zugvogel.services.ha.other_side import heir_never_runs, holder_gives_up
from zugvogel.services.inventory import Observation
from zugvogel.services.operations.world import World
from zugvogel.services.tasks import TaskContext

AT_ONCE = 64
"""Leases that are read at a time."""
LOOK_S = 1.0


class Held(NamedTuple):
    """A vm that a host may run, as its holder or its heir."""

    record: VmRecord
    lease: Lease

    @property
    def vm(self) -> str:
        return self.record.definition.name


class DeadHosts:
    """A host that was removed though it holds a vm (its lease could not be read then) has no verdict any more: of
    it the beats are asked, on the vm's own datastore."""

    def __init__(self, world: World) -> None:
        self._w = world

    async def held_by(self, host: str) -> tuple[list[Held], dict[str, str]]:
        """What `host` may run; and vm -> cause where the lease cannot be read."""
        held: list[Held] = []
        left: dict[str, str] = {}
        records = self._w.inventory.vms()
        for first in range(0, len(records), AT_ONCE):
            some = records[first : first + AT_ONCE]
            for record, lease in zip(some, await asyncio.gather(*map(self._lease_of, some)), strict=True):
                if isinstance(lease, ZugvogelError):
                    left[record.definition.name] = lease.cause
                elif lease is not None and host in _sides(lease):
                    held.append(Held(record, lease))
        return held, left

    async def _lease_of(self, record: VmRecord) -> Lease | ZugvogelError | None:
        try:
            return await self._w.mounted(record.datastore).leases.read(record.definition.name)
        except ZugvogelError as error:
            return error

    async def confirm(self, name: str) -> Task:
        """As `Backend.confirm_dead`."""
        self._refuse_alive(name, await self._w.statuses())

        async def work(ctx: TaskContext) -> dict[str, Any]:
            ctx.progress("leases", f"looking for vms of {name}")
            held, left = await self.held_by(name)
            if not held and not left and not _is_member(name, await self._w.statuses()):
                raise NotFound(f"there is no host {name}, and no vm is held by it", "see: zv host list")
            if held:
                ctx.progress("beats", f"looking once more for a sign of life of {name}")
                await self._look_once_more(name, {each.record.datastore for each in held})
            released = []
            for each in held:
                ctx.progress("leases", f"releasing {each.vm}")
                try:
                    await self._release(each, name)
                    released.append(each.vm)
                except ZugvogelError as error:
                    left[each.vm] = error.cause
            told = f"{name} was confirmed dead; released: {', '.join(released) or 'no vm'}"
            evidence = {"released": released, "left": left}
            self._w.events.emit(
                "host.confirmed-dead", name, told, severity=Severity.WARNING, evidence=evidence, task=ctx.id
            )
            return evidence

        return self._w.tasks.start("host.confirm-dead", name, work)

    def _refuse_alive(self, name: str, statuses: Iterable[HostStatus]) -> None:
        for status in statuses:
            if status.host.name == name and (name == self._w.me or status.verdict is not Verdict.FAILED):
                raise Refused(
                    f"{name} is {status.verdict}, so it may run vms: {status.why}",
                    "cut its power first, and wait until zv host list shows it as failed",
                )

    async def _look_once_more(self, name: str, datastores: set[str]) -> None:
        """A verdict, or a look at the beats, that is made afterwards rests on none older than the leases as they
        were read: the host has linked nothing between the two. Beats that nobody had read here so far are given
        the time to prove something."""
        detection_s = self._w.inventory.number(DETECTION_TIME) / 1000
        await self._w.clock.sleep(APART * detection_s + CACHED_S + ASK_TIMEOUT_S)
        if _is_member(name, await self._w.statuses()):
            return
        deadline = self._w.clock.monotonic() + 2 * detection_s
        while self._w.clock.monotonic() < deadline:
            if all(self._w.shows_no_life(store, name) for store in datastores):
                return
            await self._w.clock.sleep(LOOK_S)

    async def _release(self, held: Held, host: str) -> None:
        """Refused where `host` shows a sign of life by now, or the other side of its move may run the vm."""
        vm, lease = held.vm, held.lease
        why = f"{host} was confirmed dead; what it had not written to its disks is lost"
        dead = await self._dead(held, host)
        living, statuses = _sides(lease) - dead, await self._w.statuses()
        if living and all(_is_member(side, statuses) for side in living):
            await self._make_sure(lease, host)
            dead = await self._dead(held, host) | living
        claim = lease_rules.release_confirmed_dead(lease, vm, host, dead, why=why, at=self._w.clock.now_iso())
        if claim is None:
            raise Refused(f"{vm} is {lease.state}, so {host} does not run it", f"see: zv vm show {vm}")
        await self._w.mounted(held.record.datastore).leases.claim(claim)
        self._w.inventory.observe(
            Observation(vm=vm, observed=VmState.FAILED, host=host, epoch=claim.epoch, why=why)
        )
        self._w.events.emit(
            "vm.failed", vm, f"{vm}: {why}", severity=Severity.ERROR, evidence={"epoch": claim.epoch}
        )

    async def _make_sure(self, lease: Lease, dead: str) -> None:
        """The other side of its move lives. Refused unless it makes sure that it never runs the vm."""
        is_heir_dead = dead == lease.heir
        other = lease.holder.host if is_heir_dead and lease.holder is not None else lease.heir
        try:
            if is_heir_dead:
                await holder_gives_up(self._w.on, lease, dead)
            else:
                await heir_never_runs(self._w.on, lease)
        except ZugvogelError as error:
            raise Refused(
                f"{lease.vm} was being migrated between {dead} and {other}, and {other} may run it: {error.cause}",
                error.next_step or f"see: zv vm show {lease.vm}",
            ) from error

    async def _dead(self, held: Held, host: str) -> frozenset[str]:
        """Hosts judged failed, and sides of the lease that are no hosts of the cluster and beat no more."""
        statuses, store = await self._w.statuses(), held.record.datastore
        self._refuse_alive(host, statuses)
        former = {side for side in _sides(held.lease) if not _is_member(side, statuses)}
        silent = {side for side in former if self._w.shows_no_life(store, side)}
        if host in former - silent:
            raise Refused(
                f"{host} is no host of the cluster, and its beat on {store} was not seen to stand still",
                "cut its power, wait for a minute, and say it again",
            )
        return frozenset(s.host.name for s in statuses if s.verdict is Verdict.FAILED) | silent


def _sides(lease: Lease) -> set[str]:
    """Who may run the vm."""
    if lease.state is not LeaseState.RUNNING or lease.holder is None:
        return set()
    return {lease.holder.host} | ({lease.heir} if lease.heir else set())


def _is_member(name: str, statuses: Iterable[HostStatus]) -> bool:
    return any(status.host.name == name for status in statuses)
