"""The wanted roles, in the hosts' records of the registry; etcd's members follow them (`role_changes`).

Every change goes through one counter key, so that of two hosts that change roles at once one reads again.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence

from zugvogel.core import roles
from zugvogel.core.roles import Changes, Policy
from zugvogel.domain.host import Host, HostStatus, Role, Verdict
from zugvogel.errors import Conflict, NotFound
from zugvogel.ports.clock import Clock
from zugvogel.ports.registry import Entry, Registry
from zugvogel.services.events import EventLog
from zugvogel.services.inventory import Inventory

COUNTER = "hostcounter"
"""Also changed by each host that joins."""
TRIES = 8
READY = {Verdict.LIVE, Verdict.MAINTENANCE}

Decide = Callable[[list[Host]], dict[str, Host]]
"""The hosts as a majority has them -> the records that change, by name."""


def drawn(names: Sequence[str]) -> list[str]:
    """In random order."""
    return random.SystemRandom().sample(list(names), len(names))


class Roles:
    """`statuses`: of all hosts. `draw`: names in random order."""

    def __init__(
        self,
        name: str,
        *,
        registry: Registry,
        inventory: Inventory,
        events: EventLog,
        clock: Clock,
        statuses: Callable[[], Awaitable[list[HostStatus]]],
        draw: Callable[[Sequence[str]], list[str]] = drawn,
    ) -> None:
        self._name = name
        self._registry = registry
        self._inventory = inventory
        self._events = events
        self._clock = clock
        self._statuses = statuses
        self._draw = draw
        self._failed_since: dict[str, float] = {}
        self._nothing_due: tuple[list[Host], bool] = [], True
        """Hosts, and whether nothing can be due among them while the policy is static."""

    async def tick(self) -> None:
        """On primaries: what is due is done by the first of them that is live."""
        if self._inventory.host(self._name).role is not Role.PRIMARY:
            self._failed_since.clear()
            return
        if self._can_nothing_be_due():
            return
        statuses = await self._statuses()
        failed_for_s = self._failed_for_s(statuses)
        ready = _ready(statuses)
        first = next((h.name for h in self._inventory.hosts() if h.role is Role.PRIMARY and h.name in ready), None)
        if first != self._name:
            return
        if (found := roles.due(self._inventory.hosts(), ready, failed_for_s, self._policy())) is None:
            return

        def decide(hosts: list[Host]) -> dict[str, Host]:
            again = roles.due(hosts, ready, failed_for_s, self._policy())
            return _records(hosts, again.changes if again else {})

        await self._change(decide, found.why)

    def _can_nothing_be_due(self) -> bool:
        """Not even if every host were live; then nobody needs to judge them for this."""
        policy = self._policy()
        if policy.replace_after_s is not None:
            return False
        hosts = self._inventory.hosts()
        if hosts != self._nothing_due[0]:  # the same objects are compared at a glance
            self._nothing_due = list(hosts), roles.due(hosts, {h.name for h in hosts}, {}, policy) is None
        return self._nothing_due[1]

    async def hand_over(self, host: str, *, is_in_maintenance: bool) -> str | None:
        """Put `host` into maintenance, or take it out; into it a primary hands its role over in the same moment
        (P5). Returns who took it. Raises NotFound."""
        ready = _ready(await self._statuses())

        def decide(hosts: list[Host]) -> dict[str, Host]:
            known = next((h for h in hosts if h.name == host), None)
            if known is None:
                raise NotFound(f"there is no host {host}", "see: zv host list")
            changes = roles.on_leave(hosts, host, ready) if is_in_maintenance else {}
            records = _records(hosts, changes)
            record = records.get(host, known)
            records[host] = record.model_copy(update={"is_in_maintenance": is_in_maintenance})
            return {name: r for name, r in records.items() if r not in hosts}

        changed = await self._change(decide, f"{host} goes into maintenance")
        return next((h.name for h in changed if h.name != host and h.role is Role.PRIMARY), None)

    async def reconfigure(self) -> Changes:
        """The roles anew, at random (P6). Returns the changes."""
        ready = _ready(await self._statuses())
        order: list[str] = []

        def decide(hosts: list[Host]) -> dict[str, Host]:
            order[:] = self._draw([h.name for h in hosts])
            return _records(hosts, roles.reconfigure(hosts, order, ready))

        changed = await self._change(decide, "roles were given out anew, at random")
        return {h.name: h.role for h in changed}

    async def label(self, host: str, failure_domain: str) -> None:
        """Raises NotFound."""

        def decide(hosts: list[Host]) -> dict[str, Host]:
            known = next((h for h in hosts if h.name == host), None)
            if known is None:
                raise NotFound(f"there is no host {host}", "see: zv host list")
            record = known.model_copy(update={"failure_domain": failure_domain})
            return {host: record} if record != known else {}

        await self._change(decide, "")

    # writing -------------------------------------------------------------------------------------

    async def _change(self, decide: Decide, why: str) -> list[Host]:
        """Decide from what a majority has and write, all or nothing; again when somebody else changed it. Returns
        the records that were changed."""
        for _ in range(TRIES):
            counter = await self._registry.get(COUNTER)
            entries = {e.key: e for e in await self._registry.list("hosts/")}
            hosts = sorted(_parsed(entries), key=lambda h: h.ordinal)
            records = decide(hosts)
            if not records:
                return []
            changes = {f"hosts/{name}": record.model_dump_json().encode() for name, record in records.items()}
            expect = {key: entries[key].revision for key in changes}
            changes[COUNTER] = counter.value if counter else str(roles.next_ordinal(hosts) - 1).encode()
            expect[COUNTER] = counter.revision if counter else 0
            try:
                await self._registry.put_many(changes, expect=expect)
            except Conflict:
                continue
            self._tell(hosts, records, why)
            return list(records.values())
        raise Conflict("the hosts are being changed by others all the time", "try again")

    def _tell(self, hosts: list[Host], records: dict[str, Host], why: str) -> None:
        before = {h.name: h.role for h in hosts}
        for name, record in records.items():
            if record.role is not before[name]:
                self._events.emit(
                    "host.role-changed", name, f"{name} is {record.role} now: {why}",
                    evidence={"role": record.role.value, "before": before[name].value},
                )  # fmt: skip

    def _policy(self) -> Policy:
        if self._inventory.setting("das.rolepolicy") != "adaptive":
            return Policy()
        return Policy(float(self._inventory.number("das.rolepolicy.replaceafter")))

    def _failed_for_s(self, statuses: list[HostStatus]) -> dict[str, float]:
        """By this host's own clock, from the first round that judged it failed."""
        now = self._clock.monotonic()
        failed = {s.host.name for s in statuses if s.verdict is Verdict.FAILED}
        self._failed_since = {name: self._failed_since.get(name, now) for name in failed}
        return {name: now - since for name, since in self._failed_since.items()}


def _ready(statuses: list[HostStatus]) -> frozenset[str]:
    return frozenset(s.host.name for s in statuses if s.verdict in READY)


def _parsed(entries: dict[str, Entry]) -> list[Host]:
    return [Host.model_validate_json(e.value) for e in entries.values()]


def _records(hosts: list[Host], changes: Changes) -> dict[str, Host]:
    return {h.name: h.model_copy(update={"role": changes[h.name]}) for h in hosts if h.name in changes}
