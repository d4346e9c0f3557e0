"""Primary and secondary hosts (mission, P1 to P5). Pure."""

from __future__ import annotations

from collections.abc import Sequence

from zugvogel.domain.host import Host, Role

PRIMARIES = 5


def role_for_new_host(hosts: Sequence[Host]) -> Role:
    """P1: the first five hosts are primaries, all further ones secondaries."""
    primaries = sum(h.role is Role.PRIMARY for h in hosts)
    return Role.PRIMARY if primaries < PRIMARIES else Role.SECONDARY


def next_ordinal(hosts: Sequence[Host]) -> int:
    return max((h.ordinal for h in hosts), default=0) + 1


def promoted_by_removal(hosts: Sequence[Host], removed: str) -> Host | None:
    """P5: the secondary that takes the place of a removed primary: the one added first."""
    gone = next((h for h in hosts if h.name == removed), None)
    if gone is None or gone.role is not Role.PRIMARY:
        return None
    rest = [h for h in hosts if h.name != removed and h.role is Role.SECONDARY]
    return min(rest, key=lambda h: h.ordinal, default=None)
