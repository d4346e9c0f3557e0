"""QEMU as services see it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from zugvogel.domain.migration import MigrationSample
from zugvogel.domain.vm import VmDefinition

PREALLOC_BPS = 64 << 20
"""A host takes at least so many bytes of memory each second; what a spawn of a preallocated vm is given."""


class MachineStatus(StrEnum):
    """QMP's RunState, the part we tell apart; see `query-status` in QEMU's documentation."""

    RUNNING = "running"
    PAUSED = "paused"
    PRELAUNCH = "prelaunch"
    INMIGRATE = "inmigrate"
    FINISH_MIGRATE = "finish-migrate"
    POSTMIGRATE = "postmigrate"
    IO_ERROR = "io-error"
    SHUTDOWN = "shutdown"
    GUEST_PANICKED = "guest-panicked"
    INTERNAL_ERROR = "internal-error"
    WATCHDOG = "watchdog"
    SUSPENDED = "suspended"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class NicSpec:
    """A NIC as built on this host: the tap is made by the network port, in `bridge` (with `vlan` 0: untagged)."""

    mac: str
    bridge: str
    vlan: int = 0
    mtu: int = 0


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """All that is needed to start QEMU for one vm on this host. `folder` is the vm's folder as this host
    mounts it. `incoming`: start stopped and wait for a migration (`-S -incoming defer`).
    `is_preallocated`: all of its memory is taken from the host before QMP answers, by several threads.
    `tags` are kept with the process (``spawn.json``) and come back on adoption: epoch, migration id ..."""

    definition: VmDefinition
    folder: Path
    nics: tuple[NicSpec, ...]
    incoming: bool = False
    is_preallocated: bool = False
    tags: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MachineEvent:
    """`name` as QMP spells it (STOP, RESUME, SHUTDOWN, MIGRATION, MIGRATION_PASS ...), plus ``EXITED`` with
    ``{"returncode": int | None, "why": str}`` as the last one. `at` is this host's Clock.monotonic() when
    the agent received it."""

    name: str
    data: dict[str, Any]
    at: float


class Machine(Protocol):
    """One QEMU process on this host. After EXITED every method raises `Unreachable`."""

    @property
    def vm(self) -> str: ...
    @property
    def pid(self) -> int: ...
    @property
    def start_ticks(self) -> int:
        """When the process started, in clock ticks since boot: with `pid` it names the process for ever."""

    @property
    def tags(self) -> dict[str, Any]: ...
    @property
    def is_alive(self) -> bool: ...
    @property
    def is_frozen(self) -> bool:
        """The process is stopped (SIGSTOP), by the guard, this agent or an earlier one. QMP raises `Unreachable`
        meanwhile; `kill` works."""

    def freeze(self) -> None:
        """SIGSTOP: no vCPU runs from here on. I/O that the kernel has already taken still goes to the disk.
        Nothing when the process is gone."""

    async def thaw(self) -> None:
        """SIGCONT. Only after this host has linked the next epoch of the vm's lease. Returns when QMP answers;
        raises `Unreachable` when it does not in time, and then the process runs."""

    @property
    def serial_socket(self) -> Path: ...
    @property
    def display_socket(self) -> Path | None:
        """VNC without a password (RFB 3.8, shared). None: the vm was started without a display."""

    @property
    def tap_names(self) -> tuple[str, ...]:
        """In the order of the definition's NICs."""

    def events(self) -> AsyncIterator[MachineEvent]:
        """Events from now on; many readers may listen; ends after EXITED. Registration happens at the
        call, not at the first `anext`."""

    async def set_tags(self, **tags: Any) -> None:
        """Change tags durably (atomic rename of spawn.json on this host)."""

    async def status(self) -> MachineStatus: ...
    async def cont(self) -> None:
        """Raises `ProcedureFailed` while it `has_closed_images`."""

    @property
    def has_closed_images(self) -> bool:
        """`reopen_images` was begun, by this agent or an earlier one, and has not been finished since."""

    async def reopen_images(self, *, keeps_answered_writes: bool) -> tuple[str, ...]:
        """For one that stands still because its disk fails (IO_ERROR) though the storage works: each of its image
        files is opened anew and its lock taken again; with `cont` the guest goes on as if nothing had been.
        Returns their paths; none when the only trouble is a lack of room. Only while this host holds the vm's
        lease: nobody else may have written to them. Raises `ProcedureFailed` where the old file cannot be given up
        without losing what the guest wrote last, or another process holds the lock; it may be tried again.
        `keeps_answered_writes`: `core.filesystems.keeps_answered_writes`."""

    async def stop(self) -> None:
        """Stop the vCPUs."""

    async def powerdown(self) -> None:
        """ACPI power button."""

    async def reset(self) -> None: ...
    async def set_guest_clock(self) -> None:
        """Have the guest's agent set its clock to this host's. Raises DeadlineExceeded when no agent answers
        (there may be none), ProcedureFailed when it refuses."""

    async def ping_guest(self, timeout_s: float) -> bool:
        """True: the guest's agent answers. False: none has its port open, from which nothing follows (it was
        ended, the guest boots). Raises DeadlineExceeded when one has it open and says nothing."""

    async def io_count(self) -> int:
        """Grows whenever the guest has used a disk or sent a packet."""

    async def quit(self) -> None:
        """End the process in order; SIGKILL after a short deadline. Returns when it is reaped/gone."""

    async def kill(self) -> None:
        """SIGKILL; returns when the process is gone (its image locks and taps with it)."""

    async def execute(self, command: str, arguments: dict[str, Any] | None = None) -> Any:
        """Any QMP command. Raises `ProcedureFailed` with QEMU's own text."""

    # live migration
    async def migration_capabilities(self) -> set[str]:
        """Names this QEMU offers in query-migrate-capabilities."""

    async def set_migration(self, capabilities: dict[str, bool], parameters: dict[str, Any]) -> None: ...
    async def listen(self, address: str, port: int) -> None:
        """`migrate-incoming tcp:address:port`."""

    async def migrate_to(self, address: str, port: int) -> None:
        """Returns as soon as QEMU has taken the order."""

    # saved memory
    async def save_to(self, path: Path) -> None:
        """Order the memory of the stopped vm into the mapped-ram file `path` (made before, QEMU's user may write
        it). Returns as soon as QEMU has taken the order; `migration` tells how it goes."""

    async def save_stream(self, fd: int) -> None:
        """The same into a pipe, as a stream that any QEMU loads; the vm may run. It runs until the vCPUs stand
        still, or until so little is left that QEMU itself stops them. `fd` stays the caller's."""

    async def limit_save(self, bps: int) -> None:
        """Bytes per second for the save under way; 0: as fast as it goes."""

    async def forget_save(self) -> None:
        """After a save that was not finished: the vm can be migrated and saved again."""

    async def load_from(self, path: Path) -> None:
        """For a machine that was spawned with `incoming`: load what `save_to` wrote. Returns when the order is
        taken. Disks are not touched before `cont`."""

    async def load_stream(self, fd: int) -> None:
        """The same from a pipe."""

    async def dirty_bps(self) -> float | None:
        """Bytes of memory that the guest changes each second, measured for a second. None: not known."""

    async def memory_used_bytes(self) -> int:
        """What of the vm's RAM takes up memory of this host: no more than this has to be saved."""

    async def migration(self) -> MigrationSample:
        """query-migrate."""

    async def cancel_migration(self) -> None:
        """migrate_cancel; a yank follows if the stream does not let go within 2 s."""

    async def continue_switchover(self) -> None:
        """migrate-continue from pre-switchover."""

    async def announce(self) -> None:
        """announce-self: RARP frames for every NIC (L10), 5 rounds."""


@dataclass(frozen=True, slots=True)
class TlsCredentials:
    """Directory with ca-cert.pem, server-cert.pem, server-key.pem, client-cert.pem, client-key.pem readable by
    QEMU's user."""

    directory: Path


class Hypervisor(Protocol):
    @property
    def version(self) -> str:
        """ "10.0.2"."""

    @property
    def accelerator(self) -> str:
        """ "kvm" only where it is proven to work, else "tcg"."""

    @property
    def default_machine(self) -> str:
        """Newest versioned q35 machine type that every QEMU >= 7.2 of the cluster has: "pc-q35-7.2"."""

    async def spawn(self, spec: MachineSpec) -> Machine:
        """Start QEMU as the unprivileged user, sandboxed; returns when QMP answers. Not running guest code
        yet: the machine is in `prelaunch` (or waits for `listen`); `cont` starts it. Raises
        `ProcedureFailed` with the last lines QEMU wrote, leaving nothing behind."""

    async def adopt(self) -> list[Machine]:
        """QEMU processes of ours that outlived an earlier agent: reconnected, or frozen (then `thaw` connects).
        Run directories whose process is gone are cleaned up and not returned. May be called again for those
        that did not answer."""

    def left(self) -> tuple[str, ...]:
        """Vms that have a QEMU here which did not answer when it was to be adopted."""

    def bound_logs(self) -> None:
        """Cut logs of running vms that have grown too long."""

    def log(self, vm: str, lines: int = 200) -> dict[str, str]:
        """Last lines of this host's logs of the vm: "qemu" and "serial"."""
