"""etcd's members as services see them: the list they agree on, and this host's own one."""

from __future__ import annotations

import builtins
from typing import Protocol

from zugvogel.domain.datastore import Datastore
from zugvogel.domain.registry import Member, MemberStatus


class Members(Protocol):
    """Asked of whichever member answers. Raises `Unreachable` where etcd does not answer, `Refused` where it will
    not; every call may be repeated."""

    async def list(self) -> list[Member]: ...

    async def status(self, member: Member) -> MemberStatus | None:
        """Of that member itself; None: it does not answer."""

    async def ensure(self, peer_url: str) -> None:
        """Add it as a learner unless it is a member."""

    async def promote(self, peer_url: str) -> bool:
        """True when it votes. False: it is no member. Raises `Refused` or `Unreachable` while it is not in
        sync."""

    async def remove(self, peer_url: str) -> None: ...

    async def move_leader(self, leader: Member, to: Member) -> None: ...


class OwnMember(Protocol):
    """This host's own member: a process and its data."""

    @property
    def has_data(self) -> bool: ...

    @property
    def is_running(self) -> bool:
        """It was started and not stopped; a process that ends meanwhile is started again."""

    @property
    def failures(self) -> int:
        """How often in a row the process ended soon after its start."""

    async def start(self, members: dict[str, str], *, is_new: bool) -> None:
        """`members`: name -> peer URL of all, when there is no data yet. `is_new`: it begins the cluster."""

    async def stop(self) -> None: ...

    async def reform(self) -> None:
        """From its own data make it the only member; no client can write meanwhile, and it is stopped afterwards.
        Whatever was cut before may be repeated. Raises `ProcedureFailed` when etcd does not come up."""

    async def discard(self) -> None:
        """Put the data of the stopped member aside, in place of what was put aside before."""

    async def forget_discarded(self) -> None: ...

    async def members(self) -> builtins.list[Member]:
        """As its own data says, majority or not. Raises `Unreachable`."""

    async def is_current(self) -> bool:
        """True: a majority has just confirmed that its data is the newest there is."""


class MemberMemory(Protocol):
    """What this host keeps on its own disk for the time without a registry."""

    def load_generation(self) -> int: ...
    def save_generation(self, generation: int) -> None:
        """Durable on return."""

    def load_datastores(self) -> list[Datastore]: ...
    def save_datastores(self, datastores: list[Datastore]) -> None: ...
