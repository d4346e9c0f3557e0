"""Whether each change of the primaries was one that P1 to P7 know, and was asked for.

cause                       what it explains
reconfigure, asked for      any change of the same number, once, until the one who asked has his answer
maintenance, asked for      the host that is in it gives its place to another, whenever that becomes possible
adaptive, long silent       so does a host that gave no sign of life for das.rolepolicy.replaceafter
a free place                a host takes it: one that joins, or where none was ready when another was removed

Nothing else does, least of all that a host fails; so one cause never excuses the next change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from zugvogel.domain.host import Host, Role
from zugvogel.sim.loop import Domain
from zugvogel.sim.world import PRIMARIES


class RoleWatch:
    """`silent_s(host)`: since its last sign of life. `replace_after_s`: None under the static policy.
    `dead_after_s`: nobody counts a host as live that was silent for longer."""

    def __init__(self, silent_s: Callable[[str], float]) -> None:
        self._silent_s = silent_s
        self._primaries: frozenset[str] | None = None
        self._in_maintenance: set[str] = set()
        self._asked: list[Domain] = []
        self.replace_after_s: float | None = None
        self.dead_after_s = 120.0

    def into_maintenance(self, host: str) -> None:
        """Somebody asks for it; it may take long to be granted."""
        self._in_maintenance.add(host)

    def reconfigure(self, asked: Domain) -> None:
        """Somebody asks for it; work of `asked` does it."""
        self._asked.append(asked)

    def answered(self, asked: Domain) -> None:
        if asked in self._asked:
            self._asked.remove(asked)

    def changed(self, hosts: Sequence[Host]) -> Iterator[str]:
        """What is wrong with the primaries, in sentences. `hosts`: their records now."""
        now = frozenset(h.name for h in hosts if h.role is Role.PRIMARY)
        before, self._primaries = self._primaries, now
        told = ", ".join(sorted(now))
        if len(now) > PRIMARIES:
            yield f"there are {len(now)} primaries: {told}"
        if before is None:
            first = sorted(hosts, key=lambda h: h.ordinal)[:PRIMARIES]
            if now != {h.name for h in first}:
                yield f"the primaries are {told} from the beginning, not the first hosts"
        elif before != now:
            yield from self._change(before, now, {h.name: h for h in hosts})

    def _change(self, before: frozenset[str], now: frozenset[str], hosts: dict[str, Host]) -> Iterator[str]:
        told, came, left = ", ".join(sorted(now)), now - before, before - now
        if len(came) < len(left & hosts.keys()):
            yield f"there are {len(now)} primaries left of {len(before)}"
        for name in sorted(came):
            if hosts[name].is_in_maintenance:
                yield f"{name} became a primary though it is in maintenance"
            elif self._silent_s(name) > self.dead_after_s:
                yield f"{name} became a primary though it has been silent for {self._silent_s(name):.0f} s"
        free = max(0, PRIMARIES - len(before)) + len(left)
        if all(self._may_leave(name, hosts.get(name)) for name in left) and len(came) <= free:
            return
        open_ = [asked for asked in self._asked if not asked.is_ended]
        if open_ and len(came) == len(left):
            self._asked.remove(open_[0])
        else:
            yield f"the primaries became {told} though nothing was done that changes them"

    def _may_leave(self, name: str, host: Host | None) -> bool:
        """None: it is no host any more."""
        if host is None or (host.is_in_maintenance and name in self._in_maintenance):
            return True
        return self.replace_after_s is not None and self._silent_s(name) >= self.replace_after_s
