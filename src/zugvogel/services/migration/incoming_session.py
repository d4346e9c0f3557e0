"""What a target knows of one vm that is on its way to it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from zugvogel.domain.migration import TargetPhase
from zugvogel.domain.vm import VmDefinition
from zugvogel.ports.hypervisor import Machine
from zugvogel.services.letting_go import NEVER

SILENCE_S = 20.0
"""A session whose source asks nothing for this long, and that was never loaded, is given up."""
WANTED_FOR_S = 15.0
"""Where the storage works again for all at once, this host needs a moment more than the one that asks."""
ASKED_WITHIN_S = 75.0
"""The active primary asks again after a minute at the latest."""


@dataclass(slots=True)
class Wanted:
    """How long a host that reaches the datastore has been asking for the vm, by this host's clock."""

    since: float | None = None
    last: float = 0.0

    def note(self, reaches_datastore: bool, now: float) -> None:
        """An ask, of one that does so now or does not."""
        if not reaches_datastore:
            self.since = None
        elif self.since is None or now - self.last > ASKED_WITHIN_S:
            self.since = now
        self.last = now

    def is_long(self, now: float) -> bool:
        return self.since is not None and now - self.since >= WANTED_FOR_S and now - self.last <= ASKED_WITHIN_S


@dataclass(slots=True)
class Session:
    """One incoming vm. Instants are this host's clock. `heard_at`: the source asked last; `since`: its word cannot
    be older. `has_run`: it may have run; `is_going`: it was let go."""

    id: str
    vm: str
    definition: VmDefinition
    datastore: str
    source: str
    phase: TargetPhase
    heard_at: float
    machine: Machine | None = None
    port: int = 0
    epoch: int = 0
    why: str = ""
    is_loaded: bool = False
    has_run: bool = False
    is_going: bool = False
    since: float = NEVER
    is_paused: bool = False
    """QEMU stopped it after it ran here: a disk failed before this host's claim was linked."""
    wanted: Wanted = field(default_factory=Wanted)
    patience_s: float = SILENCE_S
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    watcher: asyncio.Task[None] | None = None
