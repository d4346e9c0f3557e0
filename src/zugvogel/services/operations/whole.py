"""All operations of an agent as one `zugvogel.ports.backend.Backend`."""

from __future__ import annotations

from zugvogel.services.membership import Membership
from zugvogel.services.migration.source import LiveMigrations
from zugvogel.services.operations.cluster import ClusterOperations
from zugvogel.services.operations.consoles import ConsoleOperations, Consoles
from zugvogel.services.operations.moves import MoveOperations
from zugvogel.services.operations.storage import StorageOperations
from zugvogel.services.operations.vms import VmOperations
from zugvogel.services.operations.world import World


class Operations(ClusterOperations, StorageOperations, VmOperations, MoveOperations, ConsoleOperations):
    """Each part brings its operations and its RPC commands."""

    def __init__(self, world: World, membership: Membership, live: LiveMigrations, consoles: Consoles) -> None:
        ClusterOperations.__init__(self, world, membership)
        StorageOperations.__init__(self, world)
        VmOperations.__init__(self, world, self._current_baseline)
        MoveOperations.__init__(self, world, self, live)
        ConsoleOperations.__init__(self, world, self, consoles)

    async def _current_baseline(self) -> str:
        return (await self.baseline()).current
