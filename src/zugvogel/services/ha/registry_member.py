"""The life of this host's member of etcd: it begins, joins, votes, leaves, and follows the registry's generation.

Each round does one step, derived from the role in the host record, the data on disk and the chain of generations,
so a round that fails or an agent that is cut goes on with the next. What must hold:

- With data on disk etcd starts only after the chain was read: the data may belong to a generation that is past.
- Data of a past generation is put aside only once the host is admitted to the newer one.
- A host that is no primary any more runs its member until it is none: its vote may be needed to remove it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from zugvogel.core import registry_generation
from zugvogel.core.registry_generation import Chain, Stance
from zugvogel.domain.datastore import Datastore
from zugvogel.domain.host import Host, Role
from zugvogel.domain.registry import GenerationAnswer, peer_url
from zugvogel.errors import StorageError, Unreachable, ZugvogelError
from zugvogel.ports.clock import Clock
from zugvogel.ports.members import MemberMemory, Members, OwnMember
from zugvogel.ports.peers import Handler
from zugvogel.ports.registry import Registry
from zugvogel.services.events import EventLog
from zugvogel.services.ha.reforming import Reforming
from zugvogel.services.ha.registry_chain import RegistryChain

log = logging.getLogger(__name__)

CHAIN_S = 5.0
"""So often a member looks whether its generation still counts."""
LOOK_S = 2.0
"""So often a member asks for a majority's word that its data is the newest, and one that is to leave whether it
may."""
KEYLESS_TRIES = 10
"""So often a host that joins asks for the CA's keys before it joins without them."""
HOPELESS_FAILURES = 3
GENERATION = "generation"
"""The key that tells clients of etcd which generation they read."""


class FirstRecords(Protocol):
    """What the first host of a cluster writes into its empty etcd."""

    @property
    def is_pending(self) -> bool: ...

    async def write(self) -> None: ...


class RegistryMember:
    """`hosts`: as known now, also from disk. `contacts`: hosts to ask about etcd, this one not among them. `call`
    asks one of them. `datastores`: None while the registry was not read yet; then those on disk count.
    `ensure_keys`: see Membership. `stands_down`: another machine has this one's name, and its member."""

    def __init__(
        self,
        name: str,
        *,
        clock: Clock,
        registry: Registry,
        members: Members,
        own: OwnMember,
        memory: MemberMemory,
        chain: RegistryChain,
        reforming: Reforming,
        events: EventLog,
        first: FirstRecords,
        hosts: Callable[[], list[Host]],
        contacts: Callable[[], list[Host]],
        call: Callable[[Host, str, dict[str, Any]], Awaitable[dict[str, Any]]],
        datastores: Callable[[], list[Datastore] | None],
        ensure_keys: Callable[[], Awaitable[bool]],
        stands_down: Callable[[], str],
    ) -> None:
        self._name = name
        self._clock = clock
        self._registry = registry
        self._members = members
        self._own = own
        self._memory = memory
        self._chain = chain
        self._reforming = reforming
        self._events = events
        self._first = first
        self._hosts = hosts
        self._contacts = contacts
        self._call = call
        self._datastores = datastores
        self._ensure_keys = ensure_keys
        self._stands_down = stands_down
        self._saved_datastores: list[Datastore] | None = None
        self._seen = Chain()
        self._seen_at: float | None = None
        self._looked_at: float | None = None
        self._votes = False
        self._marked = -1
        self._keyless = 0

    def handlers(self) -> dict[str, Handler]:
        return {"etcd.generation": self._on_generation, "registry.reform": self._on_reform}

    def generation(self) -> int | None:
        """Of the data of the member that runs here; None: none runs, or it is past."""
        own = self._memory.load_generation()
        return own if self._own.is_running and self._seen.generation <= own else None

    async def tick(self) -> None:
        """One step. Raises what it waits for."""
        if self._stands_down():
            if self._own.is_running:
                await self._own.stop()
            return
        self._remember_datastores()
        me = next((h for h in self._hosts() if h.name == self._name), None)
        if me is None:
            return
        if self._own.is_running:
            await self._run_on(me)
        elif self._first.is_pending:
            await self._own.start({me.name: peer_url(me)}, is_new=True)
        elif self._own.has_data:
            await self._begin(me)
        elif me.role is Role.PRIMARY:
            await self._join(me, await self._chain_if_read())

    # beginning -----------------------------------------------------------------------------------

    async def _begin(self, me: Host) -> None:
        """There is data on disk, and etcd does not run."""
        is_primary = me.role is Role.PRIMARY
        if not is_primary and await self._is_out(me):
            await self._leave()
            return
        chain = await self._read_or_prove()
        stance = registry_generation.stance(self._name, self._memory.load_generation(), has_data=True, chain=chain)
        if stance is Stance.CURRENT:
            await self._own.start({}, is_new=False)
        elif stance is Stance.MINE:
            await self._reforming.finish(chain)
            self._begun_anew()
        elif is_primary:
            await self._rejoin(me, chain)
        else:
            await self._leave()

    async def _rejoin(self, me: Host, chain: Chain) -> None:
        try:
            await self._join(me, chain)
        except ZugvogelError:
            await self._reforming.tick_superseded(chain)
            if self._own.is_running:
                self._begun_anew()
                return
            raise

    async def _join(self, me: Host, chain: Chain) -> None:
        """Become a member with fresh data."""
        await self._have_keys()
        own = self._memory.load_generation()
        asked = {"host": me.name, "generation": max(own, chain.generation)}
        answer = await self._ask("etcd.add", asked, first=chain.holder)
        generation = int(answer["generation"])
        if self._own.has_data:
            await self._own.discard()
            told = f"{me.name} put its registry data of generation {own} aside and joins generation {generation}"
            self._events.emit(
                "registry.rejoined", me.name, told, evidence={"generation": generation, "discarded": own}
            )
        self._memory.save_generation(generation)
        await self._own.start({str(n): str(url) for n, url in answer["members"].items()}, is_new=False)
        self._begun_anew()

    def _begun_anew(self) -> None:
        self._votes, self._seen, self._seen_at = False, Chain(), None

    async def _have_keys(self) -> None:
        """A primary needs the CA's keys; others may not have them for long any more. Without them it joins at
        last: nobody may have them."""
        if self._keyless < KEYLESS_TRIES and not await self._ensure_keys():
            self._keyless += 1
            raise Unreachable("the CA's keys did not come yet", "they are asked for again")

    # running -------------------------------------------------------------------------------------

    async def _run_on(self, me: Host) -> None:
        if self._first.is_pending:
            await self._first.write()
            return
        if await self._is_past():
            log.warning("the registry was formed anew (generation %d): etcd here stops", self._seen.generation)
            await self._own.stop()
            return
        is_primary = me.role is Role.PRIMARY
        if not self._is_time_to_look():
            return
        is_hopeless = self._own.failures >= HOPELESS_FAILURES
        if (not is_primary or is_hopeless) and await self._is_out(me):
            await self._leave()
            return
        if await self._own.is_current():
            self._reforming.confirmed()
            await self._mark()
        if is_primary:
            await self._vote(me)
            await self._reforming.tick(self._seen)

    def _is_time_to_look(self) -> bool:
        now = self._clock.monotonic()
        if self._votes and self._looked_at is not None and now - self._looked_at < LOOK_S:
            return False
        self._looked_at = now
        return True

    async def _is_past(self) -> bool:
        """Look at the chain now and then. A datastore that does not answer proves nothing."""
        now = self._clock.monotonic()
        if self._seen_at is None or now - self._seen_at >= CHAIN_S:
            self._seen_at = now
            self._seen = await self._chain_if_read()
        return self._seen.generation > self._memory.load_generation()

    async def _chain_if_read(self) -> Chain:
        try:
            return await self._chain.read()
        except (StorageError, Unreachable) as error:
            log.debug("the registry's generation is not readable: %s", error)
            return self._seen

    async def _vote(self, me: Host) -> None:
        if self._votes:
            return
        if not await self._has_vote(me):
            answer = await self._ask("etcd.promote", {"host": me.name})
            if not answer.get("votes"):
                raise Unreachable("etcd does not know this host", "it is asked again")
        self._votes = True
        await self._own.forget_discarded()

    async def _has_vote(self, me: Host) -> bool:
        """A learner does not even list the members."""
        try:
            return any(m.peer_url == peer_url(me) and not m.is_learner for m in await self._own.members())
        except Unreachable:
            return False

    async def _mark(self) -> None:
        """Tell clients of etcd the generation, once."""
        own = self._memory.load_generation()
        if own == self._marked:
            return
        entry = await self._registry.get(GENERATION)
        if own > (int(entry.value) if entry else 0):
            await self._registry.put(GENERATION, str(own).encode(), revision=entry.revision if entry else 0)
        self._marked = own

    # leaving -------------------------------------------------------------------------------------

    async def _is_out(self, me: Host) -> bool:
        """etcd's members agree that this host is none of them. An old answer can only make this host stay."""
        try:
            return all(m.peer_url != peer_url(me) for m in await self._members.list())
        except ZugvogelError as error:
            log.debug("etcd's members are not known: %s", error)
            return False

    async def _leave(self) -> None:
        await self._own.stop()
        await self._own.discard()
        await self._own.forget_discarded()
        log.info("this host is no member of etcd any more")

    # other hosts and the disk ----------------------------------------------------------------------

    async def _read_or_prove(self) -> Chain:
        """The chain; where its datastore does not answer, what the other primaries say in its place. Raises
        Unreachable while neither proves which generation counts."""
        try:
            return await self._chain.read()
        except (StorageError, Unreachable) as error:
            why = await self._why_not_unread()
            if not why:
                return Chain()
            place = self._chain.place
            raise Unreachable(
                f"etcd waits: datastore {place.name if place else ''} does not tell which generation of the "
                f"registry counts ({error.cause}), and {why}",
                "mount it, or start the agents of the other primaries",
            ) from error

    async def _why_not_unread(self) -> str:
        known = [h for h in self._hosts() if h.role is Role.PRIMARY and h.name != self._name]
        answers: dict[str, tuple[int, frozenset[str]]] = {}
        for host in known:
            try:
                told = GenerationAnswer.model_validate(await self._call(host, "etcd.generation", {}))
            except ZugvogelError:
                continue
            answers[host.name] = (told.generation, frozenset(told.primaries) - {self._name})
        return registry_generation.why_not_start_unread(
            self._memory.load_generation(), [h.name for h in known], answers
        )

    async def _on_generation(self, _payload: dict[str, Any]) -> dict[str, Any]:
        primaries = tuple(h.name for h in self._hosts() if h.role is Role.PRIMARY)
        return GenerationAnswer(generation=self._memory.load_generation(), primaries=primaries).model_dump()

    async def _on_reform(self, _payload: dict[str, Any]) -> dict[str, Any]:
        """`zv cluster reform`: somebody takes the loss."""
        await self._reforming.accept_loss()
        return {}

    async def _ask(self, command: str, payload: dict[str, Any], first: str | None = None) -> dict[str, Any]:
        """The first that answers; `first` before others. What one refuses the others would refuse too."""
        last: ZugvogelError = Unreachable("no primary is known", "see: zv host list")
        for host in sorted(self._contacts(), key=lambda h: h.name != first):
            try:
                return await self._call(host, command, payload)
            except Unreachable as error:
                last = error
        raise last

    def _remember_datastores(self) -> None:
        now = self._datastores()
        if now is not None and now != self._saved_datastores:
            self._memory.save_datastores(now)
            self._saved_datastores = now
