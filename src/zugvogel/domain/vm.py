"""Virtual machines: the wanted definition (vm.toml) and the observed state."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field

from zugvogel.domain.base import HostName, Mac, Model, Name, StrictModel
from zugvogel.domain.ha import VmPolicy


class VmState(StrEnum):
    RUNNING = "running"
    STOPPED = "stopped"
    SUSPENDED = "suspended"
    FROZEN = "frozen"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Disk(StrictModel):
    """`file` is a plain file name inside the vm's folder."""

    file: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")
    format: Literal["raw", "qcow2"]
    size_bytes: int = Field(gt=0)
    cache: Literal["none", "writethrough", "writeback"] = "none"
    is_readonly: bool = False


class Nic(StrictModel):
    """`mac` belongs to the vm for life (L10)."""

    network: Name
    mac: Mac


class Boot(StrictModel):
    """Direct kernel boot; file names inside the vm's folder. None: firmware boots the first disk."""

    kernel: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")
    initrd: str = Field(default="", pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,62})?$")
    append: str = Field(default="", max_length=1024)


Display = Literal["none", "vga"]
"""The graphical console: no device at all, or a VGA card with a pointer, shown by VNC."""


class VmDefinition(StrictModel):
    """What the user wants, kept as vm.toml in the vm's folder on the datastore.

    `machine` is a versioned QEMU machine type, fixed when the vm is created, so that any QEMU of that
    version or newer gives the guest the same devices. `cpu_model` is a cluster baseline
    ("x86-64-v2", ...) or "host". `cloud_init` names a seed image (iso) in the folder. `display` is "none" where
    nothing is said, so that a vm made before there were displays keeps its hardware.
    """

    name: Name
    uuid: str
    memory_bytes: int = Field(ge=16 * 1024**2)
    cpus: int = Field(ge=1, le=512)
    machine: str = Field(pattern=r"^pc-(q35|i440fx)-\d+\.\d+$")
    cpu_model: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")
    disks: tuple[Disk, ...] = ()
    nics: tuple[Nic, ...] = ()
    boot: Boot | None = None
    cloud_init: str = ""
    display: Display = "none"
    description: str = Field(default="", max_length=500)
    ha: VmPolicy = VmPolicy()


class VmRecord(Model):
    """A vm in the registry: where its folder lies, a copy of its definition, what is wanted and what
    was last seen. The folder's vm.toml is the truth of the definition, the lease that of the holder.

    `observed` and `host` come from the holder of `epoch`; a write with a lower epoch is dropped.
    """

    definition: VmDefinition
    datastore: Name
    wanted: Literal["running", "stopped"] = "stopped"
    observed: VmState = VmState.STOPPED
    host: HostName | None = None
    epoch: int = 0
    why: str = ""
    """Cause of the last change in one sentence, e.g. "its QEMU was killed by signal 9"."""


class VmView(Model):
    """What users see of a vm (`zv vm show --json`)."""

    name: Name
    host: HostName | None
    state: VmState
    addresses: tuple[str, ...]
    mac: str
    """MAC of the first NIC, empty without one."""
    macs: tuple[Mac, ...]
    memory_bytes: int
    cpus: int
    datastore: Name
    networks: tuple[Name, ...]
    wanted: str
    epoch: int
    why: str
    is_migrating: bool = False
    definition: VmDefinition
