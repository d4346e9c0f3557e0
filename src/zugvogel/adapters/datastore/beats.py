"""Host beats: one block a host in ``.zugvogel/hosts/<host>``, written and read past the page cache."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from pydantic import ValidationError

from zugvogel.adapters.datastore import layout
from zugvogel.adapters.datastore.deadline import Deadlines, storage_error
from zugvogel.adapters.datastore.direct_io import BLOCK_BYTES, read_uncached, write_block
from zugvogel.adapters.datastore.sealed import seal, unseal
from zugvogel.domain.datastore import Beat, Datastore


class FileBeats:
    """Has threads of its own, so that hung work on the datastore does not take a beat's place.
    `last_good_s`: CLOCK_BOOTTIME of the start of the last good write, None before the first."""

    def __init__(self, datastore: Datastore, deadlines: Deadlines) -> None:
        self._datastore = datastore
        self._folder = layout.own(datastore.path) / "hosts"
        self._deadlines = deadlines
        self.last_good_s: float | None = None
        self.allowed_age_s = 9.0
        self._under_way: set[object] = set()
        """Writes that may still land; threads take theirs out."""

    async def write(self, beat: Beat) -> None:
        data = seal(beat.model_dump_json().encode())
        path = self._folder / layout.checked_host(beat.host)
        started_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        may_begin = threading.Lock()
        """Taken once: by the thread that begins the write, or here, once nobody waits for it any more."""

        def write() -> None:
            if not may_begin.acquire(blocking=False):
                return
            try:
                self._write(path, data)
            finally:
                self._under_way.discard(may_begin)

        self._under_way.add(may_begin)
        try:
            await self._deadlines.run("writing the beat", write)
        except BaseException:
            if may_begin.acquire(blocking=False):
                self._under_way.discard(may_begin)
            raise
        self.last_good_s = started_s
        self.allowed_age_s = 0.6 * beat.detection_time_ms / 1000

    def may_still_land(self) -> bool:
        return bool(self._under_way)

    async def read(self, host: str) -> Beat | None:
        def read() -> Beat | None:
            layout.require_id(self._datastore)
            return _beat(self._folder / layout.checked_host(host))

        return await self._deadlines.run("reading its beat", read)

    async def read_all(self) -> dict[str, Beat | str]:
        return await self._deadlines.run("reading the beats", self._read_all)

    def is_fresh(self) -> bool | None:
        """A beat was written within the time after which the guard freezes. None: none was written yet."""
        if self.last_good_s is None:
            return None
        return time.clock_gettime(time.CLOCK_BOOTTIME) - self.last_good_s < self.allowed_age_s

    def _write(self, path: Path, data: bytes) -> None:
        layout.require_id(self._datastore)
        write_block(path, data)

    def _read_all(self) -> dict[str, Beat | str]:
        layout.require_id(self._datastore)
        found: dict[str, Beat | str] = {}
        failure: OSError | None = None
        for name in sorted(layout.names_in(self._folder)):
            try:
                beat = _beat(self._folder / name)
            except OSError as error:
                failure = error
                found[name] = storage_error(self._deadlines.name, "reading its beat", error).cause
                continue
            if beat is not None:
                found[name] = beat
        if failure is not None and not any(isinstance(each, Beat) for each in found.values()):
            raise failure
        return found


def _beat(path: Path) -> Beat | None:
    try:
        body = unseal(read_uncached(path, BLOCK_BYTES))
        beat = Beat.model_validate_json(body) if body is not None else None
    except (ValidationError, FileNotFoundError, IsADirectoryError):
        return None
    return beat if beat is not None and beat.host == path.name else None
