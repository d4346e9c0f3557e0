"""Notes of suspends in the vms' folders: ``suspend.<id>.json``."""

from __future__ import annotations

import logging
from collections.abc import Callable

from pydantic import ValidationError

from zugvogel.domain.memory import SuspendRecord
from zugvogel.errors import ZugvogelError
from zugvogel.ports.storage import MountedDatastore

log = logging.getLogger(__name__)

PREFIX = "suspend."


class SuspendRecords:
    def __init__(self, mounted: Callable[[str], MountedDatastore]) -> None:
        self._mounted = mounted

    async def write(self, datastore: str, record: SuspendRecord) -> None:
        data = record.model_dump_json(indent=1).encode()
        await self._mounted(datastore).folders.write_note(record.vm, f"{PREFIX}{record.id}.json", data)

    async def of_host(self, datastore: str, vm: str, host: str) -> list[SuspendRecord]:
        folders, found = self._mounted(datastore).folders, []
        for note in await folders.list_notes(vm, PREFIX):
            raw = await folders.read_note(vm, note)
            try:
                record = SuspendRecord.model_validate_json(raw or b"")
            except ValidationError as error:
                log.warning("%s: %s is not a record: %s", vm, note, error)
                continue
            if record.host == host:
                found.append(record)
        return found

    async def forget(self, datastore: str, vm: str, record_id: str) -> None:
        """A note that cannot be removed now is removed when this host's agent starts again."""
        try:
            await self._mounted(datastore).folders.delete_note(vm, f"{PREFIX}{record_id}.json")
        except ZugvogelError as error:
            log.warning("%s: note of suspend %s not removed: %s", vm, record_id, error)
