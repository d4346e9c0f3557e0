"""Saved memory of a vm: the file with its RAM and device state, and the manifest that makes it whole."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import StrictBool

from zugvogel.domain.base import HostName, Model, Name, StrictModel
from zugvogel.domain.host import CpuFacts
from zugvogel.domain.migration import Forecast, NetworkCheck, Phase, Round
from zugvogel.domain.vm import VmDefinition


class MemoryFormat(StrEnum):
    """`MAPPED`: QEMU's mapped-ram file (QEMU >= 9.1), every page at its own place, written and read by several
    threads past the page cache. `STREAM`: QEMU's migration stream in checked frames, which can be read while it
    is written."""

    MAPPED = "mapped-ram"
    STREAM = "stream"


class SaveOptions(StrictModel):
    """How memory is saved. `is_streamed`: while the vm runs (where that ends in time); False: the vm is stopped
    first; None: whatever serves best. `is_compressed`: with zstd; it goes as a stream then."""

    is_streamed: StrictBool | None = None
    is_compressed: StrictBool = False


class DiskState(Model):
    """A disk as it was when the vm's memory was saved, after the last flush. Memory never goes with a disk that
    was changed since."""

    file: str
    size_bytes: int
    changed_ns: int


class StreamSum(Model):
    """Of a stream of frames: the file's length, and a checksum over all frames' headers (which hold those of what
    the frames carry)."""

    size_bytes: int
    checksum: str


class Manifest(Model):
    """``memory.<id>.json``, sealed. It exists only once the memory file is complete and durable.

    `epoch`: the lease epoch under which the vm ran when it was saved. `size_bytes` is the file's length,
    `used_bytes` what it takes up. `checksum` covers the file's length, both its ends and samples of what lies
    between; of a stream it is that of its `StreamSum`. `definition` is what the vm was started with; `cpu`,
    `accelerator` and `qemu_version` are the saving host's. `addresses`: MAC -> IPv4 addresses learned before.
    """

    id: str
    vm: Name
    host: HostName
    epoch: int
    format: MemoryFormat
    definition: VmDefinition
    cpu: CpuFacts
    accelerator: str
    qemu_version: str
    size_bytes: int = 0
    used_bytes: int = 0
    checksum: str = ""
    disks: tuple[DiskState, ...] = ()
    addresses: dict[str, tuple[str, ...]] = {}
    saved_at: str = ""


class SuspendRecord(Model):
    """``suspend.<id>.json`` in the vm's folder from before the vCPUs stop until the vm runs again or is suspended
    for good. `target` empty: a plain suspend. `id` is also the memory's."""

    id: str
    task: str
    vm: Name
    host: HostName
    target: str = ""


class ResumeOrder(Model):
    """From the host that saves to the one that is to go on: be ready to load memory `id`."""

    id: str
    vm: Name
    source: HostName
    definition: VmDefinition
    addresses: dict[str, tuple[str, ...]] = {}
    is_streamed: bool = False
    """Load the memory while it is written."""
    used_bytes: int = 0
    """About so much is to be loaded."""


class ResumeAnswer(Model):
    """Of the ordered host. `why` empty: it is ready and looks at the lease. `loaded_bytes`: so far it is in a
    file that grows."""

    id: str
    why: str = ""
    loaded_bytes: int = 0


class QuickReport(Model):
    """Kept with the task. `result`: `moved` to `target`, `stayed` (runs on the source), `suspended` (nobody runs
    it, its memory is saved) or `died`. `outage_ms`: from the stop of the vCPUs until they run again; for a
    suspend it is 0. Phases of a quick migration: prepare, (stream,) suspend, durable, hand-over, load.
    `is_streamed`: the memory was written and loaded while the vm ran, in `rounds`."""

    vm: Name
    mode: Literal["quick"] = "quick"
    source: HostName
    target: str = ""
    result: Literal["moved", "stayed", "suspended", "died"]
    why: str = ""
    total_s: float = 0.0
    downtime_ms: float = 0.0
    outage_ms: float = 0.0
    transferred_bytes: int = 0
    memory_bytes: int = 0
    format: str = ""
    is_streamed: bool = False
    is_compressed: bool = False
    forecast: Forecast | None = None
    rounds: tuple[Round, ...] = ()
    phases: tuple[Phase, ...] = ()
    network: tuple[NetworkCheck, ...] = ()
