"""What the judge of a datastore keeps from one round to the next. All of it may be lost: the next begins anew."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass, field

from zugvogel.core.failover_facts import TOLD, Stranded, Wait, WaitFor
from zugvogel.domain.lease import Lease
from zugvogel.domain.vm import VmRecord
from zugvogel.ports.storage import MountedDatastore

ASK_AGAIN_S = 10.0
"""A host that did not give a vm up, or did not settle it, is asked again after so long."""
WORST_PAUSE_S = 15.0
"""Where a vm's files on the datastore fail, they are tried again after 1, 2, 4 ... s, and this at most."""
WORKERS = 64
"""So much is done about vms of one datastore at a time; one that hangs takes no turns of the others'."""


@dataclass(slots=True)
class Judged:
    """Instants are this host's clock. `is_due`: another round follows at once. `missing`, `stranded`: as last
    found; `frozen`: all that are stranded, those too that something was asked about lately."""

    store: MountedDatastore
    is_adopted: bool = False
    is_due: bool = False
    task: asyncio.Task[None] | None = None
    missing: list[VmRecord] = field(default_factory=list)
    stranded: list[Stranded] = field(default_factory=list)
    frozen: set[str] = field(default_factory=set)
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(WORKERS))
    waits: dict[str, WaitFor] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    """Vms that a host was asked to give up and did not, and why."""
    _leases: dict[str, tuple[Lease | None, float]] = field(default_factory=dict)
    _look_at: dict[str, float] = field(default_factory=dict)
    _told: set[tuple[str, Wait]] = field(default_factory=set)
    _asked_at: dict[str, float] = field(default_factory=dict)
    _down_since: dict[str, float] = field(default_factory=dict)
    _folder_failures: dict[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.store.datastore.name

    def due(self, now: float) -> list[VmRecord]:
        """The missing whose leases are to be read."""
        return [r for r in self.missing if self._look_at.get(r.definition.name, 0.0) <= now]

    def look_again(self) -> None:
        """A verdict has changed: nothing is waited for any longer before it is looked at, or asked."""
        self._look_at.clear()
        self._asked_at.clear()

    def misses(self, record: VmRecord, down_since: Callable[[], float]) -> None:
        """It is not seen to run; asked once, `down_since` tells since when that is so."""
        vm = record.definition.name
        self.missing.append(record)
        if vm not in self._down_since:
            self._down_since[vm] = down_since()

    def down_s(self, vm: str, now: float) -> float | None:
        since = self._down_since.get(vm)
        return None if since is None else now - since

    def saw(self, vm: str, lease: Lease | None, now: float) -> float:
        """For how long it has been so."""
        before = self._leases.get(vm)
        since = before[1] if before is not None and before[0] == lease else now
        self._leases[vm] = (lease, since)
        return now - since

    def seen_since(self, vm: str, lease: Lease) -> float:
        """The end of the first reading that showed this very lease."""
        known = self._leases.get(vm)
        return known[1] if known is not None and known[0] == lease else float("inf")

    def last_lease(self, vm: str) -> Lease | None:
        return self._leases.get(vm, (None, 0.0))[0]

    def wait(self, wait: WaitFor, now: float) -> bool:
        """True when people are to be told, once while the vm is missing."""
        self.waits[wait.vm] = wait
        self._look_at[wait.vm] = now + wait.look_again_s
        is_news = wait.wait in TOLD and (wait.vm, wait.wait) not in self._told
        if is_news:
            self._told.add((wait.vm, wait.wait))
        return is_news

    def folder_failed(self, vm: str, why: str) -> WaitFor:
        """What the datastore answered about one vm's files was an error: it is left alone for a while."""
        failures = self._folder_failures[vm] = self._folder_failures.get(vm, 0) + 1
        pause_s = min(WORST_PAUSE_S, 2.0 ** min(failures - 1, 8))
        return WaitFor(vm, Wait.FOLDER, f"what it has on {self.name} cannot be used: {why}", pause_s)

    def folder_works(self, vm: str) -> None:
        self._folder_failures.pop(vm, None)

    def asked(self, vm: str, now: float) -> None:
        self._asked_at[vm] = now

    def not_given_up(self, vm: str, why: str) -> bool:
        """True when people are to be told, once while the vm is stranded or missing."""
        is_news = vm not in self.kept
        self.kept[vm] = why
        return is_news

    def keep_not_given_up(self, vms: Set[str]) -> None:
        """Forget all others: they are where they should be."""
        if self.kept:
            self.kept = {vm: why for vm, why in self.kept.items() if vm in vms}

    def was_asked(self, vm: str, now: float) -> bool:
        return now - self._asked_at.get(vm, -ASK_AGAIN_S) < ASK_AGAIN_S

    def keep(self, vms: Iterable[str]) -> None:
        """Forget all others: they run."""
        is_any_waited_for = self.waits or self._leases or self._look_at or self._told
        if not (is_any_waited_for or self._down_since or self._folder_failures):
            return  # so it is nearly always
        kept = set(vms)
        self.waits = {vm: wait for vm, wait in self.waits.items() if vm in kept}
        self._leases = {vm: seen for vm, seen in self._leases.items() if vm in kept}
        self._look_at = {vm: at for vm, at in self._look_at.items() if vm in kept}
        self._down_since = {vm: since for vm, since in self._down_since.items() if vm in kept}
        self._told = {(vm, wait) for vm, wait in self._told if vm in kept}
        self._folder_failures = {vm: count for vm, count in self._folder_failures.items() if vm in kept}
