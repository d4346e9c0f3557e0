"""Primary and secondary hosts (mission, P1 to P7). Pure.

`ready` are the names of hosts that are live now: only they are given a primary's place, and of them none that is
in maintenance. Functions that change roles return only the changes, host -> new role; nothing to do is an empty
mapping. No change ever leaves fewer primaries than there were.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from zugvogel.domain.host import Host, Role

PRIMARIES = 5

Changes = dict[str, Role]


@dataclass(frozen=True, slots=True)
class Policy:
    """das.rolepolicy: `replace_after_s` None is "static", a failed primary stays a primary (P5)."""

    replace_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Due:
    """A change of roles that is due, with its cause in a sentence."""

    changes: Changes
    why: str


def role_for_new_host(hosts: Sequence[Host]) -> Role:
    """P1: the first five hosts are primaries, all further ones secondaries."""
    return Role.PRIMARY if len(_primaries(hosts)) < PRIMARIES else Role.SECONDARY


def next_ordinal(hosts: Sequence[Host]) -> int:
    return max((h.ordinal for h in hosts), default=0) + 1


def heir(hosts: Sequence[Host], leaving: str, ready: Set[str]) -> Host | None:
    """The secondary that takes the place of `leaving` (P5): of the failure domain that holds the fewest of the
    other primaries, and there the one added first."""
    staying = [h for h in _primaries(hosts) if h.name != leaving]
    candidates = [h for h in hosts if h.role is Role.SECONDARY and h.name != leaving and _may_lead(h, ready)]
    return min(candidates, key=lambda h: (_crowd(h, staying), h.ordinal), default=None)


def on_removal(hosts: Sequence[Host], removed: str, ready: Set[str]) -> Changes:
    """`removed` is forgotten; it has no role afterwards."""
    if not _is_primary(hosts, removed):
        return {}
    found = heir(hosts, removed, ready)
    return {} if found is None else {found.name: Role.PRIMARY}


def on_leave(hosts: Sequence[Host], leaving: str, ready: Set[str]) -> Changes:
    """`leaving` goes into maintenance, or is disconnected, and stays a host of the cluster. It keeps a primary's
    role for which there is nobody else."""
    found = on_removal(hosts, leaving, ready)
    return {leaving: Role.SECONDARY, **found} if found else {}


def due(hosts: Sequence[Host], ready: Set[str], failed_for_s: Mapping[str, float], policy: Policy) -> Due | None:
    """What the roles need now, one change at a time: a place left vacant when nobody could take it is taken; a
    primary in maintenance hands over as soon as somebody can take its place; and, only where the policy is
    adaptive, a primary that has stayed failed for long enough is replaced, the one that failed first before
    others. `failed_for_s`: hosts judged failed now -> since when. The failure of a host alone is no cause."""
    primaries = _primaries(hosts)
    if len(primaries) < PRIMARIES and (found := heir(hosts, "", ready)):
        return Due({found.name: Role.PRIMARY}, f"{len(primaries)} of {PRIMARIES} places of primaries were taken")
    for host in primaries:
        if host.is_in_maintenance and (changes := on_leave(hosts, host.name, ready)):
            return Due(changes, f"{host.name} is in maintenance")
    return _replacement(hosts, ready, failed_for_s, policy)


def _replacement(
    hosts: Sequence[Host], ready: Set[str], failed_for_s: Mapping[str, float], policy: Policy
) -> Due | None:
    if policy.replace_after_s is None:
        return None
    failed = [h for h in _primaries(hosts) if failed_for_s.get(h.name, -1.0) >= policy.replace_after_s]
    for host in sorted(failed, key=lambda h: (-failed_for_s[h.name], h.ordinal)):
        if changes := on_leave(hosts, host.name, ready):
            return Due(changes, f"{host.name} has been failed for {failed_for_s[host.name]:.0f} s")
    return None


def reconfigure(hosts: Sequence[Host], order: Sequence[str], ready: Set[str]) -> Changes:
    """P6: the roles anew. `order`: all names in the random order that decides. Of each failure domain no second
    host while another domain has none yet. Where fewer hosts are ready than there are places, primaries that are
    not ready keep theirs."""
    by_name = {h.name: h for h in hosts}
    drawn = [by_name[name] for name in order if name in by_name]
    chosen: list[Host] = []
    for pool in (
        [h for h in drawn if _may_lead(h, ready)],
        [h for h in drawn if h.role is Role.PRIMARY and not _may_lead(h, ready)],
    ):
        _draw(pool, chosen)
    names = {h.name for h in chosen}
    wanted = {h.name: Role.PRIMARY if h.name in names else Role.SECONDARY for h in hosts}
    return {h.name: wanted[h.name] for h in hosts if wanted[h.name] is not h.role}


def _draw(pool: list[Host], chosen: list[Host]) -> None:
    """Fill `chosen` up from `pool`, whose order decides among equals."""
    while pool and len(chosen) < PRIMARIES:
        best = min(range(len(pool)), key=lambda i: (_crowd(pool[i], chosen), i))
        chosen.append(pool.pop(best))


def _primaries(hosts: Sequence[Host]) -> list[Host]:
    return sorted((h for h in hosts if h.role is Role.PRIMARY), key=lambda h: h.ordinal)


def _is_primary(hosts: Sequence[Host], name: str) -> bool:
    return any(h.name == name for h in _primaries(hosts))


def _may_lead(host: Host, ready: Set[str]) -> bool:
    return host.name in ready and not host.is_in_maintenance


def _crowd(host: Host, primaries: Sequence[Host]) -> int:
    """Primaries in the same failure domain; a host without a label is a domain of its own."""
    return sum(h.failure_domain == host.failure_domain for h in primaries) if host.failure_domain else 0
