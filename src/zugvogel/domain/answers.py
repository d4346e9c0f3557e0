"""What the API answers where a domain value would be nested or hold a secret. Field names are fixed. Those
that are made of more than the domain knows are made by `zugvogel.api.views`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from zugvogel.domain.cluster import Access, Token
from zugvogel.domain.ha import Capacity, HaStatus, Proof, Protection
from zugvogel.domain.host import BridgeFacts, DatastoreReport, HostStatus, Role, Verdict
from zugvogel.domain.task import Event
from zugvogel.domain.user import Caller, User


class HostView(BaseModel):
    """Figures of a host that has not reported yet are zero."""

    name: str
    role: Role
    is_active_primary: bool
    verdict: Verdict
    address: str
    why: str
    ordinal: int
    joined_at: str
    heartbeat_age_s: float | None
    beat_ages_s: dict[str, float]
    load1: float
    is_in_maintenance: bool
    failure_domain: str
    cores: int = 0
    memory_total_bytes: int = 0
    memory_available_bytes: int = 0
    reserved_bytes: int = 0
    link_mbit: int = 0
    cpu: str = ""
    cpu_vendor: str = ""
    cpu_flags: list[str] = []
    qemu_version: str = ""
    accelerator: str = ""
    agent_version: str = ""
    bridges: list[BridgeFacts] = []
    datastores: list[DatastoreReport] = []
    vms: list[str] = []

    @classmethod
    def of(cls, status: HostStatus) -> HostView:
        host, report = status.host, status.report
        view = cls(
            name=host.name,
            role=host.role,
            is_active_primary=status.is_active_primary,
            verdict=status.verdict,
            address=host.address,
            why=status.why,
            ordinal=host.ordinal,
            joined_at=host.joined_at,
            heartbeat_age_s=status.heartbeat_age_s,
            beat_ages_s=status.beat_ages_s,
            load1=status.load1,
            is_in_maintenance=host.is_in_maintenance,
            failure_domain=host.failure_domain,
            memory_available_bytes=status.memory_available_bytes,
        )
        if report is None:
            return view
        facts = report.facts
        return view.model_copy(
            update={
                "cores": facts.cores,
                "memory_total_bytes": facts.memory_total_bytes,
                "reserved_bytes": report.reserved_bytes,
                "link_mbit": facts.link_mbit,
                "cpu": facts.cpu.name,
                "cpu_vendor": facts.cpu.vendor,
                "cpu_flags": sorted(facts.cpu.flags),
                "qemu_version": facts.qemu_version,
                "accelerator": facts.accelerator,
                "agent_version": facts.agent_version,
                "bridges": list(facts.bridges),
                "datastores": list(report.datastores),
                "vms": sorted(vm.name for vm in report.vms),
            }
        )


class DatastoreView(BaseModel):
    """`free_bytes` and `total_bytes` as the best informed host sees them. `proof`: what must have happened before
    a failed host's vms are started elsewhere, and why that; `is_proof_chosen`: by somebody, not by its kind."""

    name: str
    path: str
    kind: str
    id: str
    is_shared: bool
    added_at: str
    proof: Proof
    proof_why: str
    is_proof_chosen: bool
    is_usable: bool
    free_bytes: int
    total_bytes: int
    hosts: dict[str, DatastoreReport]


class BaselineView(BaseModel):
    """`missing`: model -> host -> flags that host lacks; an empty inner object: every host can run it."""

    current: str
    is_set: bool
    best: str
    missing: dict[str, dict[str, list[str]]]
    vendors: dict[str, str]


class SettingView(BaseModel):
    """`choices`: the values a text may have, where it may not have any. `allowed`: the same and more, in words."""

    name: str
    value: bool | int | str
    default: bool | int | str
    unit: str
    reason: str
    minimum: int | None
    maximum: int | None
    choices: list[str]
    allowed: str


class AdmissionView(BaseModel):
    """Memory of the hosts that can take vms, in bytes. `free`: what vms may still be started with, in sum;
    `largest`: memory of the largest single vm that may still be started, as one gives it for a new one. `is_met`
    false: the reserve does not fit any more."""

    used: int
    reserved: int
    free: int
    largest: int
    is_met: bool
    why: str

    @classmethod
    def of(cls, capacity: Capacity) -> AdmissionView:
        return cls(
            used=capacity.used_bytes,
            reserved=capacity.reserved_bytes,
            free=capacity.free_bytes,
            largest=capacity.largest_bytes,
            is_met=capacity.is_met,
            why=capacity.why,
        )


class HaView(BaseModel):
    """`active_primaries`: datastore -> the host that judges there; `active_primary`: that of the first one.
    `restarting`: vms that wait for their restart, each with the reason in a sentence."""

    enabled: bool
    active_primary: str | None
    active_primaries: dict[str, str | None]
    failover_level: int
    admission: AdmissionView
    detection_time_ms: int
    protections: list[Protection]
    restarting: list[str]

    @classmethod
    def of(cls, status: HaStatus) -> HaView:
        return cls(
            enabled=status.enabled,
            active_primary=status.active_primary,
            active_primaries=status.active_primaries,
            failover_level=status.failover_level,
            admission=AdmissionView.of(status.admission),
            detection_time_ms=status.detection_time_ms,
            protections=list(status.protections),
            restarting=list(status.restarting),
        )


class EventView(Event):
    """`event` is `kind`, `cause` is `message`. `vm`: the vm it tells of; empty: it tells of something else."""

    event: str
    vm: str
    cause: str

    @classmethod
    def of(cls, event: Event) -> EventView:
        return cls(**event.model_dump(), event=event.kind, vm=event.its_vm(), cause=event.message)


class TokenView(BaseModel):
    """A token without anything that could be turned back into its secret. `token` only when just made."""

    id: str
    access: Access
    description: str
    created_at: str
    token: str | None = None

    @classmethod
    def of(cls, held: Token, text: str | None = None) -> TokenView:
        return cls(
            id=held.id,
            access=held.access,
            description=held.description,
            created_at=held.created_at,
            token=text,
        )


class UserView(BaseModel):
    """A user without the password's hash. `changed_at`: when password or role changed last."""

    name: str
    access: Access
    created_at: str
    changed_at: str

    @classmethod
    def of(cls, user: User) -> UserView:
        return cls(name=user.name, access=user.access, created_at=user.created_at, changed_at=user.changed_at)


class CallerView(BaseModel):
    """`user`: the user's name, the token's id, or which service it is."""

    user: str
    access: Access
    kind: Literal["user", "token", "service"]
    expires_at: str | None

    @classmethod
    def of(cls, caller: Caller) -> CallerView:
        return cls(user=caller.user, access=caller.access, kind=caller.kind, expires_at=caller.expires_at or None)


class FenceView(BaseModel):
    """Secrets are shown as signs that say nothing."""

    host: str
    agent: str
    parameters: dict[str, str]


class VmLog(BaseModel):
    """Last lines of the host that runs the vm or ran it last."""

    qemu: str = ""
    serial: str = ""


class Alive(BaseModel):
    status: Literal["ok"] = "ok"


class Health(Alive):
    """Of the agent that was asked. `is_registry_loaded`: it has read the cluster's data."""

    host: str
    is_registry_loaded: bool


class JoinTokenView(BaseModel):
    token: str


class RolesView(BaseModel):
    """`changed`: host -> its new role."""

    changed: dict[str, Role]


class Done(BaseModel):
    """Answer of operations that have nothing else to tell."""

    done: bool = True
