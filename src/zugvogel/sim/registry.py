"""The registry of a simulated cluster: one state, reached by whoever reaches a majority of its members."""

from __future__ import annotations

import asyncio
import builtins
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from zugvogel.errors import Conflict, Unreachable
from zugvogel.ports.registry import Change, Entry
from zugvogel.sim.delays import Delays
from zugvogel.sim.loop import VirtualLoop

MANY_WATCHES, BATCH_S = 32, 0.02
"""Where so many follow the registry, changes come to them in batches of so long: one by one, starting thousands of
vms would be nothing but telling of it."""
BREAK_S = 5.0
"""A watch whose member lost the majority is noticed after so long."""


@dataclass(slots=True)
class _State:
    """`below`: prefix -> what is there, in order, of those asked for since the last write."""

    entries: dict[str, Entry] = field(default_factory=dict)
    revision: int = 0
    below: dict[str, list[Entry]] = field(default_factory=dict)


class SharedRegistry:
    """`voters()`: hosts that have a member; `is_running(host)`: it runs. `connected(a, b)`: they reach each other.
    `on_write(host, key, value)` is told of every write."""

    def __init__(
        self,
        loop: VirtualLoop,
        delays: Delays,
        *,
        voters: Callable[[], list[str]],
        is_running: Callable[[str], bool],
        connected: Callable[[str, str], bool],
    ) -> None:
        self.loop = loop
        self.delays = delays
        self.on_write: Callable[[str, str, bytes | None], None] = lambda host, key, value: None
        self.killed: set[str] = set()
        """Members that were killed and do not come back by themselves."""
        self._voters = voters
        self._is_running = is_running
        self._connected = connected
        self._state = _State()
        self._old: dict[str, _State] = {}
        """What members without a majority had when they lost it."""
        self._ruling: frozenset[str] | None = None
        self._serving: dict[str, bool] = {}
        self._watchers: list[SimWatch] = []
        self._batch: list[Change] = []

    # who serves ------------------------------------------------------------------------------------

    def changed(self) -> None:
        """Members came or went, or the network changed."""
        before, self._ruling = self._ruling, None
        self._serving.clear()
        now = self._rulers()
        for member in (before or frozenset()) - now:
            self._old[member] = _State(dict(self._state.entries), self._state.revision)
        for member in now:
            self._old.pop(member, None)
        for watch in list(self._watchers):
            watch.look()

    def _alive(self) -> list[str]:
        return [m for m in self._voters() if m not in self.killed and self._is_running(m)]

    def _rulers(self) -> frozenset[str]:
        """Members that reach a majority."""
        if self._ruling is None:
            alive, need = self._alive(), len(self._voters()) // 2 + 1
            self._ruling = frozenset(m for m in alive if sum(self._connected(m, o) for o in alive) >= need)
        return self._ruling

    def serves(self, host: str) -> bool:
        found = self._serving.get(host)
        if found is None:
            found = self._serving[host] = any(self._connected(host, m) for m in self._rulers())
        return found

    def stale(self, host: str) -> _State:
        """Of any member that `host` reaches. Raises Unreachable."""
        if self.serves(host):
            return self._state
        for member in self._alive():
            if self._connected(host, member):
                return self._old.get(member, self._state)
        raise Unreachable("the registry does not answer: no primary is reached", "see: zv host list")

    def fresh(self, host: str) -> _State:
        if not self.serves(host):
            raise Unreachable(
                "the registry has no majority within reach (no primary answers)", "see: zv host list"
            )
        return self._state

    # state -----------------------------------------------------------------------------------------

    def look(self, key: str) -> bytes | None:
        """For the world itself."""
        entry = self._state.entries.get(key)
        return entry.value if entry is not None else None

    def entries(self, prefix: str) -> list[Entry]:
        return _below(self._state, prefix)

    def write(self, host: str, key: str, value: bytes | None) -> int:
        state = self._state
        state.revision += 1
        state.below.clear()
        if value is None:
            state.entries.pop(key, None)
        else:
            state.entries[key] = Entry(key, value, state.revision)
        self.on_write(host, key, value)
        self._tell(Change(key, value, state.revision))
        return state.revision

    def _tell(self, change: Change) -> None:
        if len(self._watchers) < MANY_WATCHES and not self._batch:
            for watch in self._watchers:
                watch.tell(change)
            return
        self._batch.append(change)
        if len(self._batch) == 1:
            self.loop.world_at(self.loop.now + BATCH_S, self._tell_all)

    def _tell_all(self) -> None:
        batch, self._batch = self._batch, []
        for watch in list(self._watchers):
            watch.tell_all(batch)

    def expect(self, key: str, revision: int | None) -> None:
        if revision is None:
            return
        entry = self._state.entries.get(key)
        if (entry.revision if entry else 0) != revision:
            raise Conflict(f"{key} was changed meanwhile", "read again and retry")

    def follow(self, watch: SimWatch) -> None:
        self._watchers.append(watch)

    def unfollow(self, watch: SimWatch) -> None:
        if watch in self._watchers:
            self._watchers.remove(watch)


def _below(state: _State, prefix: str) -> list[Entry]:
    found = state.below.get(prefix)
    if found is None:
        keys = sorted([k for k in state.entries if k.startswith(prefix)])
        found = state.below[prefix] = [state.entries[k] for k in keys]
    return found.copy()


class SimRegistry:
    """`zugvogel.ports.registry.Registry` of one host's agent."""

    def __init__(self, shared: SharedRegistry, host: str) -> None:
        self._shared, self._host = shared, host
        self._watches: list[SimWatch] = []

    async def _there(self) -> None:
        await self._shared.loop.sleep(self._shared.delays.next())

    async def get(self, key: str, *, stale_ok: bool = False) -> Entry | None:
        await self._there()
        return self._read(stale_ok).entries.get(key)

    async def list(self, prefix: str, *, stale_ok: bool = False) -> list[Entry]:
        await self._there()
        return _below(self._read(stale_ok), prefix)

    def _read(self, stale_ok: bool) -> _State:
        return self._shared.stale(self._host) if stale_ok else self._shared.fresh(self._host)

    async def put(self, key: str, value: bytes, *, revision: int | None = None) -> int:
        await self._there()
        self._shared.fresh(self._host)
        self._shared.expect(key, revision)
        found = self._shared.write(self._host, key, value)
        await self._back()
        return found

    async def delete(self, key: str, *, revision: int | None = None) -> bool:
        await self._there()
        state = self._shared.fresh(self._host)
        self._shared.expect(key, revision)
        was_there = key in state.entries
        if was_there:
            self._shared.write(self._host, key, None)
        await self._back()
        return was_there

    async def put_many(self, changes: dict[str, bytes], *, expect: dict[str, int]) -> None:
        await self._there()
        self._shared.fresh(self._host)
        for key, revision in expect.items():
            self._shared.expect(key, revision)
        for key, value in changes.items():
            self._shared.write(self._host, key, value)
        await self._back()

    async def _back(self) -> None:
        """The answer is lost when the majority went away meanwhile."""
        await self._shared.loop.sleep(self._shared.delays.next())
        self._shared.fresh(self._host)

    async def snapshot(self, prefix: str) -> tuple[builtins.list[Entry], int]:
        await self._there()
        state = self._shared.stale(self._host)
        return _below(state, prefix), state.revision

    def watch(self, prefix: str, *, after: int) -> SimWatch:
        watch = SimWatch(self._shared, self._host, prefix, after)
        self._watches.append(watch)
        return watch

    def close(self) -> None:
        """Its agent ended."""
        for watch in self._watches:
            self._shared.unfollow(watch)


class SimWatch:
    """Changes in order, a moment after they were made, until the majority is out of reach for BREAK_S."""

    def __init__(self, shared: SharedRegistry, host: str, prefix: str, after: int) -> None:
        self._shared, self._host, self._prefix = shared, host, prefix
        self._due: deque[Change] = deque()
        self._waiting: asyncio.Future[None] | None = None
        self._is_broken = False
        self._is_begun = False
        self._last_at = 0.0
        self._after = after

    def __aiter__(self) -> SimWatch:
        return self

    async def __anext__(self) -> Change:
        if not self._is_begun:
            self._begin()
        while not self._due:
            if self._is_broken:
                self._shared.unfollow(self)
                raise Unreachable("the watch of the registry broke off", "read everything anew")
            self._waiting = self._shared.loop.create_future()
            await self._waiting
        return self._due.popleft()

    def _begin(self) -> None:
        self._is_begun = True
        if not self._shared.serves(self._host):
            raise Unreachable("the registry has no majority within reach (no primary answers)", "")
        if self._shared.fresh(self._host).revision > self._after:
            raise Unreachable("the registry ended the watch: its beginning was compacted away", "read anew")
        self._shared.follow(self)

    def tell(self, change: Change) -> None:
        if self._is_broken or not change.key.startswith(self._prefix):
            return
        loop = self._shared.loop
        if self._shared.serves(self._host):
            self._last_at = max(self._last_at, loop.now + self._shared.delays.next())
            loop.world_at(self._last_at, self._put, change)
        else:
            self._is_broken = True

    def tell_all(self, changes: list[Change]) -> None:
        """Now, or right after those that are on their way. What is no newer than `after` has been read already."""
        if self._is_broken:
            return
        if not self._shared.serves(self._host):
            self._is_broken = True
            self._wake()
            return
        news = [c for c in changes if c.revision > self._after and c.key.startswith(self._prefix)]
        loop = self._shared.loop
        loop.world_at(max(self._last_at, loop.now), self._put_all, news)

    def _put_all(self, changes: list[Change]) -> None:
        self._due.extend(changes)
        self._wake()

    def _put(self, change: Change) -> None:
        self._due.append(change)
        self._wake()

    def look(self) -> None:
        """The majority may be out of reach."""
        if not self._shared.serves(self._host):
            self._shared.loop.world_at(self._shared.loop.now + BREAK_S, self._give_up)

    def _give_up(self) -> None:
        if not self._shared.serves(self._host):
            self._is_broken = True
            self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)
