"""The chain of the registry's generations, on the datastore that holds it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from zugvogel.core import registry_generation
from zugvogel.core.registry_generation import ROLE, Chain
from zugvogel.domain.datastore import Datastore
from zugvogel.domain.lease import Holder
from zugvogel.errors import Refused
from zugvogel.ports.clock import Clock
from zugvogel.ports.storage import MountedDatastore


class RegistryChain:
    """`datastores`: those known now, from the registry or from disk; `open_` as `Datastores.open`. All raise
    StorageError or DeadlineExceeded while the datastore does not answer."""

    def __init__(
        self,
        me: Callable[[], Holder],
        clock: Clock,
        datastores: Callable[[], Iterable[Datastore]],
        open_: Callable[[Datastore], MountedDatastore],
    ) -> None:
        self._me = me
        self._clock = clock
        self._datastores = datastores
        self._open = open_

    @property
    def place(self) -> Datastore | None:
        return registry_generation.place(self._datastores())

    async def read(self) -> Chain:
        """Without a shared datastore there is no chain: generation 0."""
        place = self.place
        return (
            Chain() if place is None else registry_generation.read(await self._open(place).role_leases.read(ROLE))
        )

    async def claim(self, judged: Chain, base: int, why: str) -> Chain:
        """Link the generation after `judged`. Raises LeaseTaken when another host did."""
        claim = registry_generation.claim(judged, self._me(), base, why=why, at=self._clock.now_iso())
        return registry_generation.read(await self._mounted().role_leases.claim(claim))

    async def give_up(self, claimed: Chain, why: str) -> None:
        released = registry_generation.give_up(claimed, why=why, at=self._clock.now_iso())
        await self._mounted().role_leases.claim(released)

    async def carry_over(self, generation: int) -> None:
        claim = registry_generation.carry_over(self._me(), generation, at=self._clock.now_iso())
        await self._mounted().role_leases.claim(claim)

    def _mounted(self) -> MountedDatastore:
        place = self.place
        if place is None:
            raise Refused("there is no datastore that hosts share", "add one: zv datastore add")
        return self._open(place)
