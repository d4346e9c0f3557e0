"""What a service keeps of each datastore, brought up to the datastores there are now."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from zugvogel.ports.storage import MountedDatastore


class Kept(Protocol):
    """`task`: the round under way."""

    mounted: MountedDatastore
    task: asyncio.Task[None] | None


K = TypeVar("K", bound=Kept)


def follow(kept: dict[str, K], mounted: Sequence[MountedDatastore], make: Callable[[MountedDatastore], K]) -> bool:
    """By name. What is kept of one that is gone, or has become another, goes, and its round is cut off; one that
    is only opened anew keeps what is known of it. True: one is gone."""
    now = {m.datastore.name: m for m in mounted}
    gone = kept.keys() - now.keys()
    for name in gone:
        _cut_off(kept.pop(name))
    for name, datastore in now.items():
        known = kept.get(name)
        if known is not None and known.mounted is datastore:
            continue
        if known is not None and known.mounted.datastore == datastore.datastore:
            known.mounted = datastore
            continue
        if known is not None:
            _cut_off(known)
        kept[name] = make(datastore)
    return bool(gone)


def _cut_off(kept: Kept) -> None:
    if kept.task is not None:
        kept.task.cancel()


def cut_off_all(kept: dict[str, K]) -> None:
    for each in kept.values():
        _cut_off(each)
