"""All operations of an agent as one `zugvogel.ports.backend.Backend`."""

from __future__ import annotations

from dataclasses import dataclass

from zugvogel.domain.settings import ENABLED, SETTINGS
from zugvogel.ports.backend import SettingValue
from zugvogel.ports.fence import Fences
from zugvogel.ports.passwords import Passwords
from zugvogel.services.ha.roles import Roles
from zugvogel.services.membership import Membership
from zugvogel.services.migration.source import LiveMigrations
from zugvogel.services.operations.access import AccessOperations
from zugvogel.services.operations.cluster import ClusterOperations
from zugvogel.services.operations.consoles import ConsoleOperations, Consoles
from zugvogel.services.operations.fencing import FenceOperations
from zugvogel.services.operations.figures import FigureOperations
from zugvogel.services.operations.ha import HaKnowledge, HaOperations
from zugvogel.services.operations.hosts import HostOperations
from zugvogel.services.operations.moves import MoveOperations
from zugvogel.services.operations.storage import StorageOperations
from zugvogel.services.operations.suspends import SuspendOperations
from zugvogel.services.operations.users import UserOperations
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
    AccessOperations,
    UserOperations,
    ClusterOperations,
    StorageOperations,
    VmOperations,
    MoveOperations,
    SuspendOperations,
    ConsoleOperations,
    HaOperations,
    HostOperations,
    FenceOperations,
    FigureOperations,
):
    """Each part brings its operations and its RPC commands."""

    def __init__(
        self,
        world: World,
        membership: Membership,
        moves: Moves,
        consoles: Consoles,
        ha: HaKnowledge,
        fences: Fences,
        passwords: Passwords,
    ) -> None:
        AccessOperations.__init__(self, world, self)
        UserOperations.__init__(self, world, passwords)
        ClusterOperations.__init__(self, world, membership)
        StorageOperations.__init__(self, world)
        VmOperations.__init__(self, world, self._current_baseline)
        MoveOperations.__init__(self, world, self, moves.live)
        SuspendOperations.__init__(self, world, self, moves.quick, moves.saver, moves.resumer)
        ConsoleOperations.__init__(self, world, self, consoles)
        self.roles = Roles(
            world.me,
            registry=world.registry,
            inventory=world.inventory,
            events=world.events,
            clock=world.clock,
            statuses=world.statuses,
        )
        HostOperations.__init__(self, world, self, self.roles)
        HaOperations.__init__(self, world, ha)
        FenceOperations.__init__(self, world, fences)
        FigureOperations.__init__(self, world, self, self, ha)

    async def _current_baseline(self) -> str:
        return (await self.baseline()).current

    async def set_setting(self, name: str, value: int | str | bool) -> SettingValue:
        """High availability is turned on and off with its own checks and event, whichever way it is asked for."""
        if name == ENABLED and isinstance(value, bool):
            await (self.enable_ha() if value else self.disable_ha())
            return SettingValue(SETTINGS[name], value)
        return await ClusterOperations.set_setting(self, name, value)
