"""What users may ask for, as the API takes it. Defaults are filled in by the services, not here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StrictBool, StrictInt

from zugvogel.domain.base import FenceAgent, HostName, MacOrNone, Name, NameOrNone, StrictModel
from zugvogel.domain.cluster import Access
from zugvogel.domain.ha import Monitoring, RestartPriority, VmPolicy
from zugvogel.domain.host import Ports
from zugvogel.domain.memory import SaveOptions
from zugvogel.domain.migration import MigrationOptions
from zugvogel.domain.vm import Display


class NewDisk(StrictModel):
    size_bytes: StrictInt = Field(gt=0)
    format: Literal["raw", "qcow2"] = "qcow2"


class CreateVm(StrictModel):
    """`datastore` and `networks` None: the only one there is. `networks` (): no NIC.
    `image`: a name from the datastore's images or an absolute path on the host that serves the request;
    so are `kernel`, `initrd`, `cloud_init` (a NoCloud user-data file; it becomes a seed image).
    `mac` for the first NIC; empty: a new one. `is_forced`: also when it could not be started without room that is
    kept for failures of hosts."""

    name: Name
    memory_bytes: StrictInt = Field(ge=16 * 1024**2)
    cpus: StrictInt = Field(ge=1, le=512)
    datastore: Name | None = None
    networks: tuple[Name, ...] | None = None
    disks: tuple[NewDisk, ...] = ()
    image: str = ""
    kernel: str = ""
    initrd: str = ""
    append: str = Field(default="", max_length=1024)
    cloud_init: str = ""
    cpu_model: str = ""
    mac: MacOrNone = ""
    display: Display = "vga"
    description: str = Field(default="", max_length=500)
    ha: VmPolicy = VmPolicy()
    is_forced: StrictBool = False


class ChangePolicy(StrictModel):
    """None: unchanged. `anti_affinity` "": in no group. `preferred_hosts` (): none."""

    restart_priority: RestartPriority | None = None
    isolation_response: Literal["default", "leave", "shutdown", "poweroff", "suspend"] | None = None
    anti_affinity: NameOrNone | None = None
    preferred_hosts: tuple[HostName, ...] | None = None
    monitoring: Monitoring | None = None


class ChangeVm(StrictModel):
    """None: unchanged. Memory, cpus, cpu_model and display of a running vm change at its next start, `ha` at
    once."""

    memory_bytes: StrictInt | None = Field(default=None, ge=16 * 1024**2)
    cpus: StrictInt | None = Field(default=None, ge=1, le=512)
    cpu_model: str | None = None
    append: str | None = Field(default=None, max_length=1024)
    display: Display | None = None
    description: str | None = Field(default=None, max_length=500)
    add_disks: tuple[NewDisk, ...] = ()
    add_networks: tuple[Name, ...] = ()
    ha: ChangePolicy | None = None


class StartVm(StrictModel):
    """`host` None: placement chooses. `is_forced`: also when the room kept for failures of hosts is used up."""

    host: HostName | None = None
    is_forced: StrictBool = False


class StopVm(StrictModel):
    """`timeout_s` 0: the setting vm.stoptimeout."""

    timeout_s: StrictInt = Field(default=0, ge=0, le=3600)


class ResumeVm(StrictModel):
    """`host` None: placement chooses."""

    host: HostName | None = None


class SuspendVm(StrictModel):
    """`is_compressed`: the memory with zstd."""

    is_compressed: StrictBool = False


class MigrateVm(StrictModel):
    """`mode` live: the vm runs on meanwhile. quick: it is suspended to shared storage and resumed, by `save`."""

    mode: Literal["live", "quick"] = "live"
    save: SaveOptions = SaveOptions()
    target: HostName | None = None
    options: MigrationOptions = MigrationOptions()


class RegisterVm(StrictModel):
    name: Name
    datastore: Name | None = None


class WhereVm(StrictModel):
    """`datastore` None: the only one there is."""

    datastore: Name | None = None


class AddDatastore(StrictModel):
    name: Name
    path: str
    is_local_allowed: StrictBool = False


class ChangeDatastore(StrictModel):
    """`proof`: what must have happened before a failed host's vms are started elsewhere; "default": what its kind
    of file system needs."""

    proof: Literal["lock", "guard", "fence", "confirm", "default"]


class AddNetwork(StrictModel):
    """`hosts` (): every host. Adding a name again with other hosts adds their bridge; VLAN and MTU must agree."""

    name: Name
    bridge: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,14}$")
    vlan: StrictInt = Field(default=0, ge=0, le=4094)
    mtu: StrictInt = Field(default=0, ge=0, le=65535)
    hosts: tuple[HostName, ...] = ()


class Maintenance(StrictModel):
    """`is_quick_fallback`: a vm whose live migration is refused or fails is moved by quick migration. `is_return`:
    when maintenance ends, vms that were moved away come back."""

    is_on: StrictBool
    is_quick_fallback: StrictBool = False
    is_return: StrictBool = False


class ChangeHost(StrictModel):
    """None: unchanged. `failure_domain` "": none is known."""

    failure_domain: NameOrNone | None = None


class ReformRegistry(StrictModel):
    """`host`: whose data the registry is formed from."""

    host: HostName


class SetBaseline(StrictModel):
    """`model` "auto": the best that every host can run."""

    model: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")


class SetSetting(StrictModel):
    value: StrictBool | StrictInt | Annotated[str, Field(max_length=200)]


class NewToken(StrictModel):
    access: Access
    description: str = ""


Password = Annotated[str, Field(min_length=8, max_length=256)]


class NewUser(StrictModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
    name: Name
    access: Access
    password: Password = Field(repr=False)


class ChangeUser(StrictModel):
    """None: unchanged."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
    access: Access | None = None
    password: Password | None = Field(default=None, repr=False)


class ChangePassword(StrictModel):
    """One's own: `old` is asked for, since a browser may stand open."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
    old: str = Field(max_length=256, repr=False)
    new: Password = Field(repr=False)


class Login(StrictModel):
    """`client`: address of the browser; only this host's console may tell it."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
    user: str = Field(max_length=63)
    password: str = Field(max_length=256, repr=False)
    client: str = Field(default="", max_length=45, pattern=r"^[0-9a-fA-F:.]*$")


class JoinRequest(StrictModel):
    """From `zv host join`: one-time token, name and address of the new host, its CSR and its QEMUs' (PEM)."""

    token: str
    name: HostName
    address: str
    csr_pem: str
    qemu_csr_pem: str
    ports: Ports = Ports()


class SetFence(StrictModel):
    """As `FenceConfig`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
    agent: FenceAgent
    parameters: dict[str, str] = Field(default={}, max_length=50)
    secrets: dict[str, str] = Field(default={}, max_length=10, repr=False)


class CaKeys(StrictModel):
    """What certificates are signed with, PEM: the cluster CA's key and the migration CA's."""

    ca_key_pem: str
    migration_ca_key_pem: str


class JoinAnswer(StrictModel):
    """What the joined host writes to disk. `ca_keys` only for primaries. `hosts`: JSON of all Host records."""

    cluster_name: str
    host_json: str
    hosts_json: tuple[str, ...]
    ca_pem: str
    certificate_pem: str
    migration_ca_pem: str
    qemu_certificate_pem: str
    heartbeat_key_hex: str
    ca_keys: CaKeys | None = None
