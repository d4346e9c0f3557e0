"""Notes of moves in the vms' folders: ``migration.<id>.json`` (the source's record) and ``word.<id>``."""

from __future__ import annotations

import logging
from collections.abc import Callable

from pydantic import ValidationError

from zugvogel.domain.migration import SourceRecord
from zugvogel.errors import ZugvogelError
from zugvogel.ports.storage import MountedDatastore

log = logging.getLogger(__name__)

PREFIX = "migration."


class MigrationRecords:
    def __init__(self, mounted: Callable[[str], MountedDatastore]) -> None:
        self._mounted = mounted

    async def write(self, datastore: str, record: SourceRecord) -> None:
        data = record.model_dump_json(indent=1).encode()
        await self._mounted(datastore).folders.write_note(record.vm, f"{PREFIX}{record.id}.json", data)

    async def write_word(self, datastore: str, vm: str, migration_id: str) -> None:
        """From here on the word counts as given, whoever reads it when."""
        await self._mounted(datastore).folders.write_note(vm, f"word.{migration_id}", b"completed\n")

    async def has_word(self, datastore: str, vm: str, migration_id: str) -> bool:
        return await self._mounted(datastore).folders.read_note(vm, f"word.{migration_id}") is not None

    async def of_source(self, datastore: str, vm: str, source: str) -> list[SourceRecord]:
        """Records of moves that `source` drove, from the vm's folder."""
        folders, found = self._mounted(datastore).folders, []
        for note in await folders.list_notes(vm, PREFIX):
            raw = await folders.read_note(vm, note)
            try:
                record = SourceRecord.model_validate_json(raw or b"")
            except ValidationError as error:
                log.warning("%s: %s is not a record: %s", vm, note, error)
                continue
            if record.source == source:
                found.append(record)
        return found

    async def forget(self, datastore: str, vm: str, migration_id: str) -> None:
        """A note that cannot be removed now is removed when this host's agent starts again."""
        folders = self._mounted(datastore).folders
        for note in (f"{PREFIX}{migration_id}.json", f"word.{migration_id}"):
            try:
                await folders.delete_note(vm, note)
            except ZugvogelError as error:
                log.warning("%s: %s not removed: %s", vm, note, error)
