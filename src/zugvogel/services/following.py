"""What a service keeps of each datastore, brought up to the datastores there are now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from zugvogel.ports.storage import MountedDatastore
from zugvogel.services.rounds import Rounds


class Kept(Protocol):
    mounted: MountedDatastore
    rounds: Rounds


K = TypeVar("K", bound=Kept)


def follow(kept: dict[str, K], mounted: Sequence[MountedDatastore], make: Callable[[MountedDatastore], K]) -> bool:
    """By name. What is kept of one that is gone, or has become another, goes, and its round is cut off; one that
    is only opened anew keeps what is known of it. True: one is gone."""
    now = {m.datastore.name: m for m in mounted}
    gone = kept.keys() - now.keys()
    for name in gone:
        kept.pop(name).rounds.cut_off()
    for name, datastore in now.items():
        known = kept.get(name)
        if known is not None and known.mounted is datastore:
            continue
        if known is not None and known.mounted.datastore == datastore.datastore:
            known.mounted = datastore
            continue
        if known is not None:
            known.rounds.cut_off()
        kept[name] = make(datastore)
    return bool(gone)


def cut_off_all(kept: dict[str, K]) -> None:
    for each in kept.values():
        each.rounds.cut_off()
