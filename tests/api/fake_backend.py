"""A small cluster in memory that keeps the contract of `zugvogel.ports.backend.Backend`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any, Literal

from zugvogel.domain.cluster import Access, Cluster, Token
from zugvogel.domain.datastore import Datastore
from zugvogel.domain.figures import Figures, GuardFigures, Readiness, RegistryFigures
from zugvogel.domain.ha import (
    Capacity,
    Explanation,
    FailoverPlan,
    HaStatus,
    Placed,
    Proof,
    Protection,
    RestartPriority,
)
from zugvogel.domain.host import (
    CpuFacts,
    DatastoreReport,
    FenceConfig,
    Host,
    HostFacts,
    HostReport,
    HostStatus,
    Role,
    Verdict,
)
from zugvogel.domain.maintenance import MaintenanceReport, VmMove
from zugvogel.domain.migration import Finding, FindingLevel, MigrationPlan, MigrationReport, Phase, Round
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
from zugvogel.domain.settings import ENABLED, SETTINGS, refuse_unfit
from zugvogel.domain.task import Event, Progress, Task, TaskError, TaskState
from zugvogel.domain.user import Caller, Session, User
from zugvogel.domain.vm import Display, Nic, VmDefinition, VmState, VmView
from zugvogel.errors import AlreadyExists, Forbidden, InvalidInput, NotFound, Refused, SessionEnded
from zugvogel.ports.backend import BaselineStatus, DatastoreStatus, SettingValue

TOKENS = {"viewer-token": Access.VIEWER, "operator-token": Access.OPERATOR, "admin-token": Access.ADMIN}
MAC = "52:54:00:00:00:01"
AT = "2026-01-01T00:00:00.000Z"
UNFED = "none is fed: a host that hangs as a whole and wakes up runs its vms until its guard acts"

REPORT = MigrationReport(
    vm="web1",
    source="host1",
    target="host2",
    result="moved",
    total_s=2.5,
    downtime_ms=31.0,
    qemu_downtime_ms=30.0,
    transferred_bytes=300 * 2**20,
    memory_bytes=2**30,
    channels=4,
    rounds=tuple(
        Round(
            number=n,
            transferred_bytes=2 ** (28 - 2 * n),
            remaining_bytes=2 ** (26 - 2 * n),
            dirty_rate_bps=2.0**22,
            throughput_bps=2.0**27,
            expected_downtime_ms=40.0,
            duration_s=1.0 / (n + 1),
        )
        for n in range(3)
    ),
    phases=(
        Phase(name="checks", start_s=0, duration_s=0.1),
        Phase(name="precopy", start_s=0.1, duration_s=2.2),
        Phase(name="blackout", start_s=2.3, duration_s=0.031),
        Phase(name="cleanup", start_s=2.331, duration_s=0.169),
    ),
)


class Echo:
    """A console that answers in capitals and ends when it reads ``exit``."""

    def __init__(self) -> None:
        self._bytes: asyncio.Queue[bytes] = asyncio.Queue()
        self.closed = threading.Event()

    async def read(self) -> bytes:
        return await self._bytes.get()

    async def write(self, data: bytes) -> None:
        self._bytes.put_nowait(b"" if b"exit" in data else data.upper())

    async def close(self) -> None:
        self.closed.set()


class FakeBackend:
    def __init__(self) -> None:
        self.proof: Proof | None = None
        self._tasks: dict[str, Task] = {}
        self._vms: dict[str, VmView] = {}
        self._values: dict[str, int | str | bool] = {}
        self._networks = {"lan": Network(name="lan", bridges={"*": "br0"})}
        self._held_tokens = {"t1": Token(id="t1", access=Access.ADMIN, secret_sha256="f" * 64, created_at=AT)}
        self.held_users: dict[str, User] = {}
        self.sessions: dict[str, str] = {}
        self.logins = 0
        self.login_clients: list[str] = []
        self.consoles: list[Echo] = []
        self.unready: tuple[str, ...] = ()
        self.shown_figures = Figures(
            host="host1",
            is_primary=False,
            is_ha_enabled=False,
            failover_level=1,
            guard=GuardFigures(is_armed=False, is_ticking=False),
            registry=RegistryFigures(is_loaded=True, is_reachable=True, latency_s=0.002, is_member=False),
        )
        self.fences: dict[str, FenceConfig] = {}
        self.created: list[CreateVm] = []
        self.started: list[StartVm] = []
        self._add("web1")

    def _add(self, name: str, display: Display = "vga") -> VmView:
        definition = VmDefinition(
            name=name,
            uuid="0",
            memory_bytes=2**29,
            cpus=2,
            machine="pc-q35-7.2",
            cpu_model="x86-64-v2",
            nics=(Nic(network="lan", mac=MAC),),
            display=display,
        )
        self._vms[name] = VmView(
            name=name,
            host="host1",
            state=VmState.RUNNING,
            addresses=("198.51.100.10",),
            mac=MAC,
            macs=(MAC,),
            memory_bytes=2**29,
            cpus=2,
            datastore="shared",
            networks=("lan",),
            wanted="running",
            epoch=3,
            why="started",
            definition=definition,
        )
        return self._vms[name]

    def _task(self, kind: str, subject: str, report: dict[str, Any] | None = None, **fields: Any) -> Task:
        task = Task(
            **{
                "id": f"task{len(self._tasks)}",
                "kind": kind,
                "subject": subject,
                "owner": "host1",
                "state": TaskState.DONE,
                "version": 7,
                "created_at": AT,
                "started_at": AT,
                "ended_at": AT,
                "report": report,
                **fields,
            }
        )
        self._tasks[task.id] = task
        return task

    async def authenticate(self, token: str) -> Caller:
        if token == self.console_token():
            return Caller(access=Access.VIEWER, user="console", kind="service")
        if token in self.sessions:
            user = self.held_users.get(self.sessions[token])
            if user is None:
                raise SessionEnded("the session is over", "log in again")
            return Caller(access=user.access, user=user.name, kind="user", expires_at=AT)
        if token not in TOKENS:
            raise Forbidden("this token is not valid", "ask an admin for a new one")
        return Caller(access=TOKENS[token], user=token, kind="token")

    def console_token(self) -> str:
        return "console.token"

    async def login(self, user: str, password: str, *, client: str = "") -> Session:
        self.login_clients.append(client)
        held = self.held_users.get(user)
        if held is None or held.password_hash != password:
            raise Forbidden("user or password is wrong", "ask an admin for a new password")
        return self._session(held)

    def _session(self, user: User) -> Session:
        self.logins += 1
        token = f"s.{user.name}-{self.logins}"
        self.sessions[token] = user.name
        return Session(token=token, user=user.name, access=user.access, expires_at=AT)

    async def end_session(self, token: str) -> None:
        if self.sessions.pop(token, None) is None:
            raise Refused("only a user's session can be ended", "revoke the token")

    async def change_password(self, user: str, request: ChangePassword, *, client: str = "") -> Session:
        if self.held_users[user].password_hash != request.old:
            raise Forbidden("the old password is wrong")
        await self.change_user(user, ChangeUser(password=request.new))
        return self._session(self.held_users[user])

    async def users(self) -> list[User]:
        return [self.held_users[name] for name in sorted(self.held_users)]

    async def new_user(self, request: NewUser) -> User:
        if request.name in self.held_users:
            raise AlreadyExists(f"there is a user {request.name} already")
        fields = {"name": request.name, "access": request.access, "password_hash": request.password}
        self.held_users[request.name] = User(**fields, created_at=AT, changed_at=AT)
        return self.held_users[request.name]

    async def change_user(self, name: str, request: ChangeUser) -> User:
        if name not in self.held_users:
            raise NotFound(f"there is no user {name}", "see `zv user list`")
        fields = request.model_dump(exclude_none=True)
        if "password" in fields:
            fields["password_hash"] = fields.pop("password")
        self.held_users[name] = self.held_users[name].model_copy(update=fields)
        self.sessions = {token: user for token, user in self.sessions.items() if user != name}
        return self.held_users[name]

    async def delete_user(self, name: str) -> None:
        if self.held_users.pop(name, None) is None:
            raise NotFound(f"there is no user {name}", "see `zv user list`")

    async def cluster(self) -> Cluster:
        return Cluster(id="c1", name="birds", created_at=AT)

    async def baseline(self) -> BaselineStatus:
        return BaselineStatus(
            current="x86-64-v2",
            is_set=False,
            best="x86-64-v2",
            missing={"x86-64-v2": {}, "x86-64-v3": {"host2": ("avx2",)}},
            vendors={"host1": "GenuineIntel", "host2": "GenuineIntel"},
        )

    async def set_baseline(self, model: str) -> BaselineStatus:
        if model == "x86-64-v3":
            raise Refused("host2 lacks avx2, which x86-64-v3 needs", "choose x86-64-v2")
        return await self.baseline()

    async def hosts(self) -> list[HostStatus]:
        facts = HostFacts(
            cpu=CpuFacts(
                vendor="GenuineIntel", family=6, model=85, stepping=7, name="Xeon", flags=frozenset({"sse4_2"})
            ),
            cores=8,
            memory_total_bytes=2**34,
        )
        answers = []
        for i in (1, 2):
            host = Host(name=f"host{i}", address=f"192.0.2.{10 + i}", role=Role.PRIMARY, ordinal=i, joined_at=AT)
            report = HostReport(host=host.name, boot_id="b", facts=facts) if i == 1 else None
            verdict = Verdict.LIVE if i == 1 else Verdict.FAILED
            answers.append(
                HostStatus(
                    host=host,
                    verdict=verdict,
                    why="heartbeats are fresh",
                    report=report,
                    is_active_primary=i == 1,
                )
            )
        return answers

    async def host(self, name: str) -> HostStatus:
        for status in await self.hosts():
            if status.host.name == name:
                return status
        raise NotFound(f"there is no host {name}", "see `zv host list`")

    async def local_host(self) -> Host:
        return (await self.hosts())[0].host

    async def remove_host(self, name: str) -> None:
        status = await self.host(name)
        if status.verdict is Verdict.LIVE:
            raise Refused(f"{name} is live", "stop its agent first")

    async def change_host(self, name: str, request: ChangeHost) -> HostStatus:
        status = await self.host(name)
        host = status.host.model_copy(update=request.model_dump(exclude_none=True))
        return status.model_copy(update={"host": host})

    async def maintain_host(self, name: str, request: Maintenance) -> Task:
        await self.host(name)
        moves = (VmMove(vm="web1", result="moved", how="live", host="host2"),)
        report = MaintenanceReport(host=name, is_in_maintenance=request.is_on, successor="host6", vms=moves)
        return self._task("host.maintenance", name, report.model_dump(mode="json"))

    async def reconfigure_roles(self) -> dict[str, Role]:
        return {"host1": Role.SECONDARY, "host6": Role.PRIMARY}

    async def reform_registry(self, host: str) -> None:
        await self.host(host)
        raise Refused("the registry is not formed anew: 2 of 3 members are not failed", "see: zv host list")

    async def confirm_dead(self, name: str) -> Task:
        status = await self.host(name)
        if status.verdict is not Verdict.FAILED:
            raise Refused(f"{name} is {status.verdict}", "cut its power first")
        return self._task("host.confirm-dead", name, {"released": ["web2"], "left": {"web3": "host1 may run it"}})

    async def fence_config(self, name: str) -> FenceConfig | None:
        await self.host(name)
        return self.fences.get(name)

    async def set_fence(self, name: str, request: SetFence) -> FenceConfig:
        await self.host(name)
        self.fences[name] = FenceConfig(**request.model_dump())
        return self.fences[name]

    async def remove_fence(self, name: str) -> None:
        self.fences.pop(name, None)

    async def test_fence(self, name: str) -> Task:
        works = name in self.fences and self.fences[name].parameters.get("ip") != "192.0.2.99"
        by = {"host1": "it says on" if works else "fence_ipmilan did not answer status within 60 s"}
        return self._task("host.fence-test", name, {"host": name, "works": works, "by": by})

    async def new_join_token(self) -> str:
        return "j1.secret.fingerprint"

    async def join(self, request: JoinRequest) -> JoinAnswer:
        if not request.token.startswith("j1."):
            raise Forbidden("this join token is not valid")
        return JoinAnswer(
            cluster_name="birds",
            host_json="{}",
            hosts_json=(),
            ca_pem="CA",
            certificate_pem="C",
            migration_ca_pem="M",
            qemu_certificate_pem="Q",
            heartbeat_key_hex="00",
        )

    async def tokens(self) -> list[Token]:
        return list(self._held_tokens.values())

    async def new_token(self, request: NewToken) -> tuple[Token, str]:
        token = Token(id="t2", access=request.access, secret_sha256="e" * 64, description=request.description)
        self._held_tokens["t2"] = token
        return token, "t2.secret"

    async def revoke_token(self, token_id: str) -> None:
        if self._held_tokens.pop(token_id, None) is None:
            raise NotFound(f"there is no token {token_id}")

    async def settings(self) -> list[SettingValue]:
        return [SettingValue(s, self._values.get(n, s.default)) for n, s in SETTINGS.items()]

    async def set_setting(self, name: str, value: int | str | bool) -> SettingValue:
        if name not in SETTINGS:
            raise NotFound(f"there is no setting {name}")
        refuse_unfit(SETTINGS[name], value, lambda n: self._values.get(n, SETTINGS[n].default))
        self._values[name] = value
        return SettingValue(SETTINGS[name], value)

    async def ha_status(self) -> HaStatus:
        return HaStatus(
            enabled=bool(self._values.get(ENABLED, False)),
            active_primary="host1",
            active_primaries={"shared": "host1"},
            failover_level=1,
            admission=Capacity(
                used_bytes=6 * 2**30, reserved_bytes=4 * 2**30, free_bytes=2 * 2**30, largest_bytes=2**30
            ),
            detection_time_ms=15000,
            protections=(
                Protection(name="guard", subject="host1", is_present=True, why="it ticks"),
                Protection(name="watchdog", subject="host1", is_present=False, why=UNFED),
                Protection(name="watchdog", subject="host2", is_present=False, why=UNFED),
            ),
            restarting=("web7 waits for the lock on its disk",),
        )

    async def enable_ha(self) -> HaStatus:
        self._values[ENABLED] = True
        return await self.ha_status()

    async def disable_ha(self) -> HaStatus:
        self._values[ENABLED] = False
        return await self.ha_status()

    async def ha_plan(self, hosts: Sequence[str]) -> FailoverPlan:
        for host in hosts:
            await self.host(host)
        fits, is_enabled = len(hosts) == 1, bool(self._values.get(ENABLED))
        placed = Placed(
            vm="web1",
            priority=RestartPriority.HIGH,
            memory_bytes=2**29,
            source="host1",
            host="host2" if fits else None,
            why="7.5 GiB of memory stay free" if fits else "no host is left",
            waits_for="" if is_enabled or not fits else "high availability is disabled",
        )
        return FailoverPlan(hosts=tuple(hosts), placed=(placed,), is_complete=fits and is_enabled)

    async def explain(self, subject: str, kind: Literal["host", "vm"] | None = None) -> Explanation:
        if kind is None:
            kind = "host" if subject.startswith("host") else "vm"
        await (self.host(subject) if kind == "host" else self.vm(subject))
        return Explanation(
            subject=subject,
            kind=kind,
            judge="host1",
            judgement="live",
            evidence=("heartbeat 0.4 s ago", "beat on shared moves"),
            follows="nothing",
        )

    async def datastores(self) -> list[DatastoreStatus]:
        store = Datastore(name="shared", id="d1", path="/srv/shared", kind="NFS v4", is_shared=True, added_at=AT)
        store = store.model_copy(update={"proof": self.proof})
        seen = DatastoreReport(name="shared", is_usable=True, fs_type="nfs4", free_bytes=2**33, total_bytes=2**34)
        return [DatastoreStatus(store, {"host1": seen})]

    async def add_datastore(self, request: AddDatastore) -> Task:
        if not request.path.startswith("/"):
            raise InvalidInput(f"{request.path} is not an absolute path")
        return self._task(
            "datastore.add", request.name, {"datastore": request.name, "kind": "NFS v4", "hosts": {}}
        )

    async def change_datastore(self, name: str, request: ChangeDatastore) -> DatastoreStatus:
        (status,) = await self.datastores()
        if name != "shared":
            raise NotFound(f"there is no datastore {name}")
        if request.proof == "guard":
            raise Refused("this fake knows of no guard")
        self.proof = None if request.proof == "default" else Proof(request.proof)
        (status,) = await self.datastores()
        return status

    async def remove_datastore(self, name: str) -> None:
        if name != "shared":
            raise NotFound(f"there is no datastore {name}")

    async def networks(self) -> list[Network]:
        return list(self._networks.values())

    async def add_network(self, request: AddNetwork) -> Network:
        if request.name in self._networks:
            raise AlreadyExists(f"there is a network {request.name} already")
        bridges = dict.fromkeys(request.hosts, request.bridge) or {"*": request.bridge}
        self._networks[request.name] = Network(
            name=request.name, bridges=bridges, vlan=request.vlan, mtu=request.mtu
        )
        return self._networks[request.name]

    async def remove_network(self, name: str) -> None:
        if self._networks.pop(name, None) is None:
            raise NotFound(f"there is no network {name}")

    async def vms(self) -> list[VmView]:
        return list(self._vms.values())

    async def vm(self, name: str) -> VmView:
        if name not in self._vms:
            raise NotFound(f"there is no vm {name}", "see `zv vm list`")
        return self._vms[name]

    async def create_vm(self, request: CreateVm) -> Task:
        if request.name in self._vms:
            raise AlreadyExists(f"there is a vm {request.name} already", "choose another name")
        self.created.append(request)
        self._add(request.name, request.display)
        return self._task("vm.create", request.name, {"vm": request.name})

    async def change_vm(self, name: str, request: ChangeVm) -> VmView:
        view = await self.vm(name)
        fields = request.model_dump(include={"memory_bytes", "cpus"}, exclude_none=True)
        definition = request.model_dump(include={"display"}, exclude_none=True)
        if request.ha is not None:
            definition["ha"] = view.definition.ha.model_copy(update=request.ha.model_dump(exclude_none=True))
        fields["definition"] = view.definition.model_copy(update=definition)
        self._vms[name] = view.model_copy(update=fields)
        return self._vms[name]

    async def delete_vm(self, name: str) -> Task:
        await self.vm(name)
        del self._vms[name]
        return self._task("vm.delete", name)

    async def register_vm(self, request: RegisterVm) -> VmView:
        return self._add(request.name)

    async def unregister_vm(self, name: str) -> None:
        await self.vm(name)
        del self._vms[name]

    async def start_vm(self, name: str, request: StartVm) -> Task:
        await self.vm(name)
        self.started.append(request)
        if request.host == "full":
            error = TaskError(code="refused", cause="full has no memory left", next_step="choose another host")
            return self._task("vm.start", name, state=TaskState.FAILED, error=error)
        return self._task("vm.start", name)

    async def stop_vm(self, name: str, request: StopVm) -> Task:
        await self.vm(name)
        return self._task("vm.stop", name)

    async def kill_vm(self, name: str) -> Task:
        await self.vm(name)
        return self._task("vm.kill", name)

    async def reset_vm(self, name: str) -> None:
        await self.vm(name)

    async def vm_log(self, name: str, lines: int) -> dict[str, str]:
        await self.vm(name)
        return {"qemu": "qemu said\n", "serial": "login:\n"}

    async def console(self, name: str) -> Echo:
        await self.vm(name)
        self.consoles.append(Echo())
        return self.consoles[-1]

    async def display(self, name: str) -> Echo:
        if (await self.vm(name)).definition.display == "none":
            raise Refused(f"{name} was started without a display", "give it one")
        return await self.console(name)

    async def suspend_vm(self, name: str, request: SuspendVm) -> Task:
        await self.vm(name)
        return self._task("vm.suspend", name, is_cancellable=True)

    async def resume_vm(self, name: str, request: ResumeVm) -> Task:
        await self.vm(name)
        return self._task("vm.resume", name)

    async def discard_vm(self, name: str) -> VmView:
        return await self.vm(name)

    async def plan_migration(self, name: str, request: MigrateVm) -> MigrationPlan:
        await self.vm(name)
        finding = Finding(code="L2", level=FindingLevel.OK, cause="both hosts reach datastore shared")
        if request.target == "host3":
            finding = Finding(
                code="L4",
                level=FindingLevel.REFUSED,
                cause="web1 needs cpu flag avx2 that host3 lacks",
                next_step="choose host2",
            )
        return MigrationPlan(
            vm=name,
            source="host1",
            target=request.target or "host2",
            reason="it has the most free memory",
            findings=(finding,),
        )

    async def migrate_vm(self, name: str, request: MigrateVm) -> Task:
        plan = await self.plan_migration(name, request)
        if plan.is_refused:
            raise Refused("; ".join(f.cause for f in plan.findings), plan.findings[0].next_step)
        return self._task("vm.migrate", name, REPORT.model_dump(mode="json"), is_cancellable=True)

    async def tasks(self) -> list[Task]:
        return list(self._tasks.values())

    async def task(self, task_id: str, *, since: int = -1, wait_s: float = 0.0) -> Task:
        if task_id not in self._tasks:
            raise NotFound(f"there is no task {task_id}", "see `zv task list`")
        return self._tasks[task_id]

    async def cancel_task(self, task_id: str) -> Task:
        task = await self.task(task_id)
        if task.state.is_final:
            raise Refused(f"task {task_id} is {task.state.value} already")
        return task

    async def events(
        self, *, after: str = "", limit: int = 200, subject: str = "", vm: str = "", host: str = "", kind: str = ""
    ) -> list[Event]:
        found = (
            Event(id="e1", at=AT, kind="vm.started", host="host1", subject="web1", message="web1 started"),
            Event(id="e2", at=AT, kind="host.failed", host="host1", subject="host2", message="host2 failed"),
        )
        wanted = {"subject": subject, "vm": vm, "host": host, "kind": kind}
        return [e for e in found if e.id > after and e.is_wanted(**wanted)][-limit:]

    async def recent_tasks(self) -> list[Task]:
        return await self.tasks()

    async def recent_events(self) -> list[Event]:
        return await self.events()

    async def figures(self) -> Figures:
        return self.shown_figures

    async def readiness(self) -> Readiness:
        return Readiness(host="host1", is_ready=not self.unready, causes=self.unready)

    async def health(self) -> dict[str, Any]:
        return {"host": "host1", "status": "ok", "is_registry_loaded": True}


def running(progress: Progress) -> Task:
    return Task(
        id="t9", kind="vm.migrate", subject="web1", owner="host1", state=TaskState.RUNNING, progress=progress
    )
