"""What the product can do, as the API sees it: one method an operation.

Implemented by `zugvogel.services.operations` on every agent. Whichever agent is asked, the answer is the
same: the implementation forwards to the host that must do the work. All raise `ZugvogelError`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from zugvogel.domain.cluster import Cluster, Token
from zugvogel.domain.datastore import Datastore
from zugvogel.domain.figures import Figures, Readiness
from zugvogel.domain.ha import Explanation, FailoverPlan, HaStatus
from zugvogel.domain.host import DatastoreReport, FenceConfig, Host, HostStatus, Role
from zugvogel.domain.migration import MigrationPlan
from zugvogel.domain.network import Network
from zugvogel.domain.requests import (
    AddDatastore,
    AddNetwork,
    ChangeDatastore,
    ChangeHost,
    ChangePassword,
    ChangeUser,
    ChangeVm,
    CreateVm,
    JoinAnswer,
    JoinRequest,
    Maintenance,
    MigrateVm,
    NewToken,
    NewUser,
    RegisterVm,
    ResumeVm,
    SetFence,
    StartVm,
    StopVm,
    SuspendVm,
)
from zugvogel.domain.settings import Setting
from zugvogel.domain.task import Event, Task
from zugvogel.domain.user import Caller, Session, User
from zugvogel.domain.vm import VmView

ConsoleKind = Literal["console", "display"]
"""Serial (a terminal's bytes) or graphical (VNC's, RFB 3.8). The API's paths end so."""


class ByteStream(Protocol):
    """A console: bytes both ways."""

    async def read(self) -> bytes:
        """Some bytes; empty at the end."""

    async def write(self, data: bytes) -> None: ...
    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class DatastoreStatus:
    datastore: Datastore
    by_host: dict[str, DatastoreReport]


@dataclass(frozen=True, slots=True)
class BaselineStatus:
    """`current` is set or computed; `candidates` are all named models with the hosts that lack what."""

    current: str
    is_set: bool
    best: str
    missing: dict[str, dict[str, tuple[str, ...]]]
    """model -> host -> flags that host lacks; an empty inner dict: every host can run it."""
    vendors: dict[str, str]


@dataclass(frozen=True, slots=True)
class SettingValue:
    setting: Setting
    value: int | str | bool


class Backend(Protocol):
    """Methods that return a Task start long work and return at once."""

    async def authenticate(self, token: str) -> Caller:
        """Raises Forbidden; SessionEnded for a user's session that is over."""

    def console_token(self) -> str:
        """A viewer's bearer for the console of this host, valid on this host until its agent ends."""

    async def login(self, user: str, password: str, *, client: str = "") -> Session:
        """Raises Forbidden. `client`: the address it comes from, for the event of a failed one."""

    async def end_session(self, token: str) -> None:
        """Refused for other bearers than a user's session."""

    async def change_password(self, user: str, request: ChangePassword, *, client: str = "") -> Session:
        """One's own. Raises Forbidden where the old one is wrong. All sessions end but the new one it answers."""

    async def cluster(self) -> Cluster: ...
    async def baseline(self) -> BaselineStatus: ...
    async def set_baseline(self, model: str) -> BaselineStatus:
        """ "auto" computes it anew. Refused where a host cannot run it, naming the flags."""

    async def hosts(self) -> list[HostStatus]: ...
    async def host(self, name: str) -> HostStatus: ...
    async def local_host(self) -> Host: ...
    async def remove_host(self, name: str) -> None:
        """Refused while the host is live or holds vm leases."""

    async def change_host(self, name: str, request: ChangeHost) -> HostStatus: ...
    async def maintain_host(self, name: str, request: Maintenance) -> Task:
        """Into maintenance: it hands a primary's role over, and its vms move away. Report: MaintenanceReport.
        The task fails when a vm stays, and the host stays in maintenance; called off, it takes vms again."""

    async def reconfigure_roles(self) -> dict[str, Role]:
        """At random; the changes. etcd's members follow, one after the other."""

    async def reform_registry(self, host: str) -> None:
        """The registry is to be formed anew from what `host` has, although others may have had newer data. Refused
        unless a majority of its members is judged failed."""

    async def fence_config(self, name: str) -> FenceConfig | None:
        """With its secrets, which whoever shows it masks."""

    async def set_fence(self, name: str, request: SetFence) -> FenceConfig: ...
    async def remove_fence(self, name: str) -> None: ...
    async def test_fence(self, name: str) -> Task:
        """Nothing is switched. Report: ``{"host": name, "works": bool, "by": {primary: what it found}}``."""

    async def confirm_dead(self, name: str) -> Task:
        """Somebody vouches that the host runs nothing any more: its vms are released. Refused unless it is judged
        failed, or is no host of the cluster any more and does not beat. Report: ``{"released": [vm],
        "left": {vm: why}}``."""

    async def new_join_token(self) -> str:
        """``<id>.<secret>.<CA fingerprint>``, valid once, one hour."""

    async def join(self, request: JoinRequest) -> JoinAnswer: ...

    async def tokens(self) -> list[Token]: ...
    async def new_token(self, request: NewToken) -> tuple[Token, str]:
        """The token's text ``<id>.<secret>`` is shown only here."""

    async def revoke_token(self, token_id: str) -> None: ...

    async def users(self) -> list[User]:
        """Without the hashes of their passwords."""

    async def new_user(self, request: NewUser) -> User: ...
    async def change_user(self, name: str, request: ChangeUser) -> User:
        """Ends the user's sessions. Refused for the last admin, as `delete_user` is."""

    async def delete_user(self, name: str) -> None: ...

    async def settings(self) -> list[SettingValue]: ...
    async def set_setting(self, name: str, value: int | str | bool) -> SettingValue: ...

    async def ha_status(self) -> HaStatus: ...
    async def enable_ha(self) -> HaStatus:
        """Refused without a datastore. The status tells which protections are missing."""

    async def disable_ha(self) -> HaStatus: ...
    async def ha_plan(self, hosts: Sequence[str]) -> FailoverPlan:
        """Who would restart where if all of `hosts` failed now; nothing is touched."""

    async def explain(self, subject: str, kind: Literal["host", "vm"] | None = None) -> Explanation:
        """Why a host or a vm is judged as it is. `kind` None: a host where there is one of that name."""

    async def datastores(self) -> list[DatastoreStatus]: ...
    async def add_datastore(self, request: AddDatastore) -> Task:
        """Report: ``{"datastore": ..., "kind": ..., "hosts": {host: "sees all" | cause}}``."""

    async def change_datastore(self, name: str, request: ChangeDatastore) -> DatastoreStatus:
        """Refused where what is chosen proves nothing on its kind of file system."""

    async def remove_datastore(self, name: str) -> None: ...
    async def networks(self) -> list[Network]: ...
    async def add_network(self, request: AddNetwork) -> Network: ...
    async def remove_network(self, name: str) -> None: ...

    async def vms(self) -> list[VmView]: ...
    async def vm(self, name: str) -> VmView: ...
    async def create_vm(self, request: CreateVm) -> Task: ...
    async def change_vm(self, name: str, request: ChangeVm) -> VmView: ...
    async def delete_vm(self, name: str) -> Task: ...
    async def register_vm(self, request: RegisterVm) -> VmView: ...
    async def unregister_vm(self, name: str) -> None: ...
    async def start_vm(self, name: str, request: StartVm) -> Task: ...
    async def stop_vm(self, name: str, request: StopVm) -> Task: ...
    async def kill_vm(self, name: str) -> Task: ...
    async def reset_vm(self, name: str) -> None: ...
    async def vm_log(self, name: str, lines: int) -> dict[str, str]:
        """ "qemu" and "serial" of the host that runs it or ran it last."""

    async def console(self, name: str) -> ByteStream:
        """The serial one, for one user at a time. It ends when the vm is moved or ends, as does a display."""

    async def display(self, name: str) -> ByteStream:
        """VNC, for several at once. Refused when the vm was started without a display."""

    async def suspend_vm(self, name: str, request: SuspendVm) -> Task:
        """Its memory goes to its datastore; report: QuickReport."""

    async def resume_vm(self, name: str, request: ResumeVm) -> Task: ...
    async def discard_vm(self, name: str) -> VmView:
        """Throw the saved memory of a suspended vm away: it boots fresh next."""

    async def plan_migration(self, name: str, request: MigrateVm) -> MigrationPlan: ...
    async def migrate_vm(self, name: str, request: MigrateVm) -> Task:
        """Progress detail: MigrationProgress; report: MigrationReport. A refused plan raises Refused with
        all findings in the cause and starts nothing."""

    async def tasks(self) -> list[Task]: ...
    async def recent_tasks(self) -> list[Task]:
        """All that are under way and the newest 200, oldest first; of other hosts at most a second old. Cheap:
        asked for several times a second."""

    async def task(self, task_id: str, *, since: int = -1, wait_s: float = 0.0) -> Task:
        """Waits up to `wait_s` for a version above `since`, then answers what there is."""

    async def cancel_task(self, task_id: str) -> Task: ...
    async def events(
        self, *, after: str = "", limit: int = 200, subject: str = "", vm: str = "", host: str = "", kind: str = ""
    ) -> list[Event]:
        """Oldest first; with `after` those newer than that id, else the newest `limit`. The others choose, as
        `Event.is_wanted`."""

    async def recent_events(self) -> list[Event]:
        """The newest 200, oldest first; as cheap as `recent_tasks`."""

    async def figures(self) -> Figures:
        """Of this agent, for monitoring. Its registry is asked, for a second at most."""

    async def readiness(self) -> Readiness:
        """Whether this agent can do its part; from what it knows, without asking anybody. Needs no token."""

    async def health(self) -> dict[str, Any]:
        """This agent's own state; needs no token."""
