"""Images of a vm that stands still, opened anew: the files that QEMU has open are dead though the storage works.

A server that dropped this host's locks, a client that was put out, a FUSE process that died: all I/O through the
old open fails for ever. QEMU's own reopening of a file node would only duplicate its descriptor, so the file is
opened by a new node, and the old one goes first: its locks, kept in this kernel though the server forgot them,
would stand in the way of the new ones. What stands in between fails every read and write, so that nothing that
is still to be written (the metadata a qcow2 keeps in memory) is taken for written.

Nobody else wrote to the images meanwhile: the lease is still this host's, which the caller has read. So what the
qcow2 node has in memory holds, and it stays; the file is changed beneath its raw filter node. QEMU flushes the old
file before that. Where that fails, the whole chain can be changed at the device instead, but for a raw image only
(what a qcow2 node has in memory would be lost), opened past the page cache, on storage that keeps what it answers.

Each step can be done again, from whatever state an earlier attempt left.
"""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from zugvogel.adapters.datastore.deadline import Deadlines
from zugvogel.errors import ProcedureFailed, Unreachable

Options = dict[str, Any]
Execute = Callable[[str, Options | None], Awaitable[Any]]

GAP = "gap-"
"""Names of nodes that stand in: ``gap-r0`` beneath the raw filter node, ``gap-disk0`` beneath the device."""
SECTOR = 512
SETTLE_S = 20.0
REFUSED_FLUSH = "Error flushing drive"
_BOOLEAN = frozenset({"cache.direct", "cache.no-flush", "read-only"})


@dataclass(frozen=True, slots=True)
class Image:
    """The nodes of one disk as QEMU was told to make them, from the file upwards (`command_line`)."""

    name: str
    file: Options
    filter: Options
    disk: Options

    @property
    def path(self) -> str:
        return str(self.file["filename"])

    @property
    def nodes(self) -> tuple[Options, Options, Options]:
        return self.file, self.filter, self.disk

    @property
    def can_be_changed_whole(self) -> bool:
        return self.disk["driver"] == "raw" and bool(self.file["cache"]["direct"])


def of_process(pid: int) -> list[Image]:
    """As it was started; its nodes cannot tell once they are gone."""
    try:
        told = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError as error:
        raise Unreachable(f"QEMU (pid {pid}) has ended") from error
    return of_arguments(told.decode(errors="replace").split("\0"))


def of_arguments(arguments: Sequence[str]) -> list[Image]:
    told = [options(value) for flag, value in itertools.pairwise(arguments) if flag == "-blockdev"]
    nodes = {str(node["node-name"]): node for node in told}
    names = [name.removeprefix("disk") for name in nodes if name.startswith("disk")]
    return [Image(name, nodes[f"f{name}"], nodes[f"r{name}"], nodes[f"disk{name}"]) for name in names]


def options(text: str) -> Options:
    """QEMU's ``key=value,...`` (a comma in a value is doubled) as QMP takes it."""
    found: Options = {}
    for part in text.replace(",,", "\0").split(","):
        key, _, value = part.replace("\0", ",").partition("=")
        *outer, last = key.split(".")
        inner = found
        for step in outer:
            inner = inner.setdefault(step, {})
        inner[last] = value == "on" if key in _BOOLEAN else value
    return found


def settle(path: str) -> int:
    """What was written through the old open and not flushed is made durable through another one: the new node
    knows nothing of it. Returns the file's size. A plain file only: QEMU named it, and root must not be led
    elsewhere."""
    handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(f"{path} is no plain file")
        fd = os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    finally:
        os.close(handle)
    return found.st_size


class Reopening:
    """Of one vm whose vCPUs stand still. `keeps_answered_writes`: a write past the page cache that was answered is
    with the storage, whatever became of this host's access to it. `flushes`: for calls that may hang."""

    def __init__(self, execute: Execute, flushes: Deadlines, *, keeps_answered_writes: bool) -> None:
        self._execute = execute
        self._flushes = flushes
        self._keeps_answered_writes = keeps_answered_writes

    async def is_needed(self) -> bool:
        """An image did not answer; one that only has no room left is alive."""
        return any(device.get("io-status") == "failed" for device in await self._execute("query-block", None))

    async def is_under_way(self) -> bool:
        """A node stands in for an image."""
        return any(name.startswith(GAP) for name in await self._nodes())

    async def open_anew(self, image: Image) -> None:
        """Raises `ProcedureFailed` where it cannot be, or another process holds its lock."""
        size_bytes = await self._flushes.run("flushing it", partial(_settled, image.path), SETTLE_S)
        if f"{GAP}disk{image.name}" not in await self._nodes() and not await self._change_file(image, size_bytes):
            await self._begin_change_of_whole(image)
        if f"{GAP}disk{image.name}" in await self._nodes():
            await self._change_whole(image)

    async def _change_file(self, image: Image, size_bytes: int) -> bool:
        """False: QEMU could not flush the old one, and all is as before."""
        name = f"r{image.name}"
        gap = GAP + name
        if gap not in await self._nodes():
            await self._add(_gap(gap, -(-size_bytes // SECTOR) * SECTOR))
        try:
            await self._execute("blockdev-reopen", {"options": [{**image.filter, "file": gap}]})
        except ProcedureFailed as error:
            if REFUSED_FLUSH not in error.cause:
                raise
            await self._delete(gap)
            return False
        await self._delete(f"f{image.name}")
        await self._add(image.file)
        await self._execute("blockdev-reopen", {"options": [image.filter]})
        await self._delete(gap)
        return True

    async def _begin_change_of_whole(self, image: Image) -> None:
        if not (image.can_be_changed_whole and self._keeps_answered_writes):
            raise ProcedureFailed(
                f"what was written last to {image.path} cannot be flushed, and may be lost",
                "end the vm and start it anew, as after a power cut: zv vm kill, zv vm start",
            )
        node = (await self._nodes())[f"disk{image.name}"]
        await self._add(_gap(f"{GAP}disk{image.name}", node["image"]["virtual-size"]))

    async def _change_whole(self, image: Image) -> None:
        gap = f"{GAP}disk{image.name}"
        await self._put_at_device(image, gap)
        for name in (f"disk{image.name}", f"r{image.name}", f"f{image.name}"):
            await self._delete(name)
        for node in image.nodes:
            await self._add(node)
        await self._put_at_device(image, f"disk{image.name}")
        await self._delete(gap)

    async def _put_at_device(self, image: Image, node: str) -> None:
        """Never the one that is there already: QEMU 10 would abort."""
        drive = {"path": f"/machine/peripheral/vd{image.name}", "property": "drive"}
        if await self._execute("qom-get", drive) != node:
            await self._execute("qom-set", {**drive, "value": node})

    async def _nodes(self) -> dict[str, Any]:
        found = await self._execute("query-named-block-nodes", {"flat": True})
        return {str(node["node-name"]): node for node in found}

    async def _add(self, node: Options) -> None:
        await self._execute("blockdev-add", node)

    async def _delete(self, name: str) -> None:
        if name in await self._nodes():
            await self._execute("blockdev-del", {"node-name": name})


def _gap(name: str, size_bytes: int) -> Options:
    """Flushes pass, since QEMU flushes a node before it puts another in its place; they carry no data: a cache
    that is not empty is written first, and that fails."""
    every = [
        {"event": "none", "iotype": kind, "errno": 5, "once": False, "immediately": True}
        for kind in ("read", "write", "write-zeroes", "discard")
    ]
    nothing = {"driver": "null-co", "size": size_bytes, "read-zeroes": False}
    return {"driver": "blkdebug", "node-name": name, "image": nothing, "inject-error": every}


def _settled(path: str) -> int:
    try:
        return settle(path)
    except OSError as error:
        raise ProcedureFailed(
            f"{path} cannot be opened: {error.strerror or error}", "see: zv datastore list"
        ) from error
