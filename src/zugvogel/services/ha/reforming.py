"""etcd formed anew from this host's data, when its majority is gone for good.

Only the judge of the datastore that holds the chain of generations does it, and only when the verdicts say that
the majority has failed; what etcd itself answers is no reason. One link(2) in the chain decides between all who
try. From there on the winner finishes, whenever it is cut (`finish`).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Sequence

from zugvogel.core import registry_generation
from zugvogel.core.registry_generation import Chain
from zugvogel.domain.host import Host, HostStatus, Role, Verdict
from zugvogel.domain.registry import Member, peer_url
from zugvogel.domain.task import Severity
from zugvogel.errors import ProcedureFailed, Refused
from zugvogel.ports.clock import Clock
from zugvogel.ports.members import MemberMemory, OwnMember
from zugvogel.services.events import EventLog
from zugvogel.services.ha.registry_chain import RegistryChain

log = logging.getLogger(__name__)

TRIES = 3
"""So often a generation that was won is tried to be formed before it is given up."""


class Reforming:
    """`judges`: whether this host judges the datastore of that name. `generation_of`: asks another host which
    generation it has. `detection_s`: das.failuredetectiontime; so long the loss must last beyond the verdicts."""

    def __init__(
        self,
        name: str,
        *,
        clock: Clock,
        own: OwnMember,
        memory: MemberMemory,
        chain: RegistryChain,
        events: EventLog,
        statuses: Callable[[], Awaitable[list[HostStatus]]],
        judges: Callable[[str], bool],
        generation_of: Callable[[Host], Awaitable[int]],
        detection_s: Callable[[], float],
        failpoint: Callable[[str], Awaitable[None]],
    ) -> None:
        self._name = name
        self._clock = clock
        self._own = own
        self._memory = memory
        self._chain = chain
        self._events = events
        self._statuses = statuses
        self._judges = judges
        self._generation_of = generation_of
        self._detection_s = detection_s
        self._failpoint = failpoint
        self._majority_at: float | None = None
        self._lost_since: float | None = None
        self._voters: list[Member] = []
        self._is_loss_accepted = False
        self._tries = 0

    def confirmed(self) -> None:
        """A majority has just confirmed that this host's data is the newest."""
        self._majority_at = self._clock.monotonic()

    async def accept_loss(self) -> None:
        """Somebody wants the registry formed anew from this host's data although others may have had newer. Raises
        Refused unless the verdicts say that the majority has failed."""
        await self._know_voters()
        if why := await self._why_not(is_loss_accepted=True):
            raise Refused(f"the registry is not formed anew: {why}", "see: zv host list")
        self._is_loss_accepted = True

    async def tick(self, chain: Chain) -> None:
        """While this host's member runs and its data counts. `chain`: as read lately."""
        place, own = self._chain.place, self._memory.load_generation()
        if place is None:
            return
        if self._judges(place.name) and chain.generation < own:
            await self._chain.carry_over(own)
        await self._know_voters()
        if await self._is_due(place.name):
            await self._claim(chain, own, "its majority has failed")

    async def tick_superseded(self, chain: Chain) -> None:
        """While another host has won a newer generation and cannot be joined: it may have died too soon."""
        place, own = self._chain.place, self._memory.load_generation()
        if place is None or not self._own.has_data or not await self._is_due(place.name):
            return
        statuses = await self._statuses()
        failed = [s.host.name for s in statuses if s.verdict is Verdict.FAILED]
        others = [s.host for s in statuses if s.host.role is Role.PRIMARY and s.host.name not in failed]
        generations = [await self._generation_of(h) for h in others if h.name != self._name]
        why = registry_generation.why_not_take_over(own, chain, failed, [own, *generations])
        if why:
            log.info("the registry is not taken over: %s", why)
            return
        await self._claim(chain, own, f"{chain.holder or 'its winner'} did not form generation {chain.generation}")

    # the decision --------------------------------------------------------------------------------

    async def _is_due(self, place: str) -> bool:
        if await self._why_not(is_loss_accepted=self._is_loss_accepted):
            self._lost_since = None
            return False
        now = self._clock.monotonic()
        if self._lost_since is None:
            self._lost_since = now
        is_mine = self._is_loss_accepted or self._judges(place)
        return is_mine and now - self._lost_since >= self._detection_s()

    async def _why_not(self, *, is_loss_accepted: bool) -> str:
        """Why etcd must not be formed anew from this host's data; empty: it may."""
        by_url = {peer_url(s.host): s for s in await self._statuses()}
        if not any(m.name == self._name for m in self._voters):
            return f"{self._name} has no vote in etcd"
        found = [by_url.get(m.peer_url) for m in self._voters]
        failed = [s for s in found if s is not None and s.verdict is Verdict.FAILED]
        now = self._clock.monotonic()
        age_s = now - self._majority_at if self._majority_at is not None else None
        return registry_generation.why_not_reform(
            len(self._voters), _ages_s(failed), 0.0 if is_loss_accepted else age_s
        )

    async def _know_voters(self) -> None:
        """As its own data has them; what was known before stays where its member does not answer."""
        members = await self._own.members()
        self._voters = [m for m in members if not m.is_learner]

    # the deed ------------------------------------------------------------------------------------

    async def _claim(self, chain: Chain, own: int, why: str) -> None:
        if chain.generation < own:
            return  # carried over first, read again next round
        claimed = await self._chain.claim(chain, own, f"{self._name} forms the registry anew: {why}")
        self._is_loss_accepted, self._lost_since = False, None
        await self._failpoint("registry.claimed")
        await self.finish(claimed)

    async def finish(self, claimed: Chain) -> None:
        """Form the generation that this host has won, from its own data. Raises ProcedureFailed when etcd does not
        come up; then again in the next round, until it is given up."""
        await self._own.stop()
        try:
            await self._own.reform()
        except ProcedureFailed as error:
            self._tries += 1
            if self._tries >= TRIES:
                self._tries = 0
                await self._chain.give_up(claimed, f"{self._name} could not form it: {error.cause}")
            raise
        self._tries = 0
        await self._failpoint("registry.formed")
        self._memory.save_generation(claimed.generation)
        await self._own.start({}, is_new=False)
        gone = sorted(m.name for m in self._voters if m.name != self._name)
        self._events.emit(
            "registry.reformed",
            self._name,
            f"the registry's majority was gone; {self._name} formed it anew from its own data (generation "
            f"{claimed.generation}). Settings that were acknowledged only by hosts that failed are lost",
            severity=Severity.WARNING,
            evidence={"generation": claimed.generation, "base": claimed.base, "former_members": gone},
        )


def _ages_s(failed: Sequence[HostStatus]) -> list[float]:
    """Of each the age of its last sign of life."""
    ages = []
    for status in failed:
        seen = [*status.beat_ages_s.values()]
        if status.heartbeat_age_s is not None:
            seen.append(status.heartbeat_age_s)
        ages.append(min(seen, default=math.inf))
    return ages
