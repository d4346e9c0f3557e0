"""Whether a process still holds a disk of a vm whose hosts give no sign of life."""

from __future__ import annotations

import logging

from zugvogel.domain.vm import VmDefinition
from zugvogel.errors import StorageError
from zugvogel.ports.storage import VmFolders

log = logging.getLogger(__name__)


async def is_any_held(folders: VmFolders, definition: VmDefinition) -> bool:
    """Where a lock cannot be looked at, QEMU looks at it when it starts. Raises `DeadlineExceeded`."""
    try:
        for disk in definition.disks:
            if not disk.is_readonly and await folders.may_be_written(definition.name, disk.file):
                return True
    except StorageError as error:
        log.warning("%s: the locks of its disks are not looked at: %s", definition.name, error)
    return False
