"""All operations of an agent as one `zugvogel.ports.backend.Backend`."""

from __future__ import annotations

from dataclasses import dataclass

from zugvogel.services.membership import Membership
from zugvogel.services.migration.source import LiveMigrations
from zugvogel.services.operations.cluster import ClusterOperations
from zugvogel.services.operations.consoles import ConsoleOperations, Consoles
from zugvogel.services.operations.moves import MoveOperations
from zugvogel.services.operations.storage import StorageOperations
from zugvogel.services.operations.suspends import SuspendOperations
from zugvogel.services.operations.vms import VmOperations
from zugvogel.services.operations.world import World
from zugvogel.services.suspend.quick import QuickMigrations
from zugvogel.services.suspend.resuming import Resumer
from zugvogel.services.suspend.saving import Saver


@dataclass(frozen=True, slots=True)
class Moves:
    """What moves vms away from this host, and brings saved ones here."""

    live: LiveMigrations
    quick: QuickMigrations
    saver: Saver
    resumer: Resumer


class Operations(
    ClusterOperations, StorageOperations, VmOperations, MoveOperations, SuspendOperations, ConsoleOperations
):
    """Each part brings its operations and its RPC commands."""

    def __init__(self, world: World, membership: Membership, moves: Moves, consoles: Consoles) -> None:
        ClusterOperations.__init__(self, world, membership)
        StorageOperations.__init__(self, world)
        VmOperations.__init__(self, world, self._current_baseline)
        MoveOperations.__init__(self, world, self, moves.live)
        SuspendOperations.__init__(self, world, self, moves.quick, moves.saver, moves.resumer)
        ConsoleOperations.__init__(self, world, self, consoles)

    async def _current_baseline(self) -> str:
        return (await self.baseline()).current
