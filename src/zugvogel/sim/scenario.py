"""Scenario files: a cluster, what happens to it, and what must come of it. TOML or JSON."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from zugvogel.domain.base import HostName, Name, StrictModel
from zugvogel.domain.ha import Monitoring, Proof, RestartPriority
from zugvogel.domain.host import Verdict
from zugvogel.errors import InvalidInput
from zugvogel.sim import scenario_checks

MIB = 1 << 20

Do = Literal[
    "power_off", "power_on", "hang", "resume",
    "network_cut", "network_heal", "partition", "heal",
    "storage_cut", "storage_hang", "storage_heal",
    "agent_kill", "agent_start", "agent_pause", "agent_resume", "guard_kill",
    "etcd_kill", "etcd_start", "fence_break",
    "maintenance_on", "maintenance_off", "reconfigure", "setting", "confirm_dead",
    "vm_start", "vm_stop", "vm_migrate", "vm_crash", "vm_delete", "vm_create",
]  # fmt: skip

WISHES = frozenset(
    {
        "maintenance_on", "maintenance_off", "reconfigure", "setting", "confirm_dead",
        "vm_start", "vm_stop", "vm_migrate", "vm_delete", "vm_create",
    }
)  # fmt: skip
_OF_NOBODY = frozenset({"partition", "heal", "reconfigure", "setting"})
_OF_VM = frozenset({"vm_start", "vm_stop", "vm_migrate", "vm_crash", "vm_delete", "vm_create"})
_OF_ONE_HOST = frozenset({"maintenance_on", "maintenance_off", "confirm_dead"})
_TAKES = {
    "vm_start": {"vm", "to", "host"},
    "vm_stop": {"vm"},
    "vm_migrate": {"vm", "to", "host", "mode"},
    "vm_crash": {"vm"},
    "vm_delete": {"vm"},
    "vm_create": {"vm"},
    "setting": {"name", "value"},
    "reconfigure": set[str](),
    "partition": {"groups", "is_one_way"},
    "heal": set[str](),
    "storage_cut": {"host", "hosts", "datastore"},
    "storage_hang": {"host", "hosts", "datastore"},
    "storage_heal": {"host", "hosts", "datastore"},
}
"""The fields of actions that take others than hosts; wishes also take `via` and `is_refused`."""


class HostSpec(StrictModel):
    """`count` above 1: hosts `name`1 to `name`<count>. The first five of all are primaries. `clock_rate`: seconds
    of its clock for one of the world's. `has_fence`: a power fence device."""

    name: HostName
    count: int = Field(default=1, ge=1, le=1000)
    cpus: int = Field(default=16, ge=1)
    memory_mib: int = Field(default=65_536, ge=256)
    clock_rate: float = Field(default=1.0, ge=0.5, le=2.0)
    failure_domain: str = ""
    has_fence: bool = False
    is_on: bool = True


class DatastoreSpec(StrictModel):
    """`kind` as the product names file systems, which decides what proves a host dead; `proof` overrides it.
    `has_image_locks`: QEMU's locks work there; `lock_lease_s`: how long those of a dead host stay.
    `holds_killed`: a QEMU that is killed while it hangs stays in the kernel until it answers."""

    name: Name
    kind: str = "GFS2"
    proof: Proof | None = None
    has_image_locks: bool = True
    lock_lease_s: float = Field(default=0.0, ge=0, le=3600)
    holds_killed: bool = False


class VmSpec(StrictModel):
    """`count` as for hosts. `host` empty: the hosts in turn. `is_started`: it runs when the timeline begins.
    `boots_in_s`: from a boot of its guest until its guest agent answers. `has_nic`: it has a network card, of
    which no address is ever learned."""

    name: Name
    count: int = Field(default=1, ge=1, le=20_000)
    memory_mib: int = Field(default=1024, ge=16)
    cpus: int = Field(default=1, ge=1)
    host: HostName | Literal[""] = ""
    datastore: Name | Literal[""] = ""
    restart_priority: RestartPriority = RestartPriority.MEDIUM
    isolation_response: Literal["default", "leave", "shutdown", "poweroff", "suspend"] = "default"
    anti_affinity: str = ""
    preferred_hosts: tuple[HostName, ...] = ()
    monitoring: Monitoring = Monitoring.CRASH
    is_started: bool = True
    boots_in_s: float = Field(default=10.0, ge=0)
    has_nic: bool = False


class NoiseSpec(StrictModel):
    """Shares of heartbeats that are lost, come twice, or come late (by up to `late_s`, so also out of order). Lost
    packets of RPC are sent again."""

    loss: float = Field(default=0.0, ge=0, lt=1)
    duplication: float = Field(default=0.0, ge=0, lt=1)
    delay: float = Field(default=0.0, ge=0, lt=1)
    late_s: float = Field(default=2.0, ge=0, le=60)


class Action(StrictModel):
    """Something that happens at `at_s`, counted from when all vms of the scenario run. Which fields go with which
    `do` is told in docs/reference/scenarios.md. `is_refused`: a wish that must be refused; others must not."""

    at_s: float = Field(ge=0)
    do: Do
    host: HostName | None = None
    hosts: tuple[HostName, ...] = ()
    vm: Name | None = None
    to: HostName | None = None
    mode: Literal["live", "quick"] = "live"
    datastore: Name | None = None
    groups: tuple[tuple[str, ...], ...] = ()
    is_one_way: bool = False
    name: str = ""
    value: bool | int | str | None = None
    via: HostName | None = None
    is_refused: bool = False

    @property
    def all_hosts(self) -> tuple[HostName, ...]:
        return (*((self.host,) if self.host else ()), *self.hosts)

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Self:
        if self.do not in _OF_VM | _OF_NOBODY and not self.all_hosts:
            raise ValueError(f"{self.do} needs `host` or `hosts`")
        if self.do in _OF_ONE_HOST and len(self.all_hosts) != 1:
            raise ValueError(f"{self.do} takes one `host`: write an entry for each")
        if self.do in _OF_VM and self.vm is None:
            raise ValueError(f"{self.do} needs `vm`")
        if self.do == "partition" and not self.groups:
            raise ValueError("partition needs `groups`")
        if self.is_one_way and (self.do != "partition" or len(self.groups) != 2):
            raise ValueError("`is_one_way` goes with a partition of two groups: nothing from the first arrives")
        if self.do == "setting" and (not self.name or self.value is None):
            raise ValueError("setting needs `name` and `value`")
        return self

    @model_validator(mode="after")
    def _has_nothing_else(self) -> Self:
        takes = _TAKES.get(self.do, {"host", "hosts"}) | {"at_s", "do"}
        if self.do in WISHES:
            takes = takes | {"via", "is_refused"}
        for name, field in type(self).model_fields.items():
            if name not in takes and getattr(self, name) != field.default:
                raise ValueError(f"{self.do} takes no `{name}`")
        named = [host for group in self.groups for host in group]
        if twice := sorted({host for host in named if named.count(host) > 1}):
            raise ValueError(f"{twice[0]} is in two groups, or twice in one")
        return self


class VmExpected(StrictModel):
    """At the end, where it is given. `same_memory`: it never booted anew. `down_at_most_s`: the longest time in
    which it ran nowhere."""

    running_on: HostName | None = None
    runs: bool | None = None
    stopped: bool | None = None
    same_memory: bool | None = None
    down_at_most_s: float | None = None


class Expected(StrictModel):
    """`all_vms` goes for each vm that is not named in `vms`. `hosts`: the verdict of a live primary. `events`:
    kinds that must have been told; `no_events`: that must not. `primaries`: the primaries at the end.
    `any_answer`: whether wishes are refused does not matter."""

    vms: dict[Name, VmExpected] = {}
    all_vms: VmExpected | None = None
    hosts: dict[HostName, Verdict] = {}
    events: tuple[str, ...] = ()
    no_events: tuple[str, ...] = ()
    primaries: tuple[HostName, ...] | None = None
    any_answer: bool = False


class Scenario(StrictModel):
    """High availability is on unless `settings` say otherwise; other settings have the product's defaults."""

    title: str
    seed: int = 1
    horizon_s: float = Field(gt=0, le=7 * 86_400)
    hosts: tuple[HostSpec, ...] = Field(min_length=1)
    datastores: tuple[DatastoreSpec, ...] = (DatastoreSpec(name="ds1"),)
    vms: tuple[VmSpec, ...] = ()
    settings: dict[str, bool | int | str] = {}
    network: NoiseSpec = NoiseSpec()
    timeline: tuple[Action, ...] = ()
    expect: Expected = Expected()

    def each_host(self) -> Iterator[HostSpec]:
        for spec in self.hosts:
            yield from _each(spec)

    def each_vm(self) -> Iterator[VmSpec]:
        """With host and datastore filled in."""
        on = [h.name for h in self.each_host() if h.is_on]
        for number, spec in enumerate(each for vm in self.vms for each in _each(vm)):
            update = {"host": spec.host or on[number % len(on)]}
            yield spec.model_copy(update=update | {"datastore": spec.datastore or self.datastores[0].name})

    @model_validator(mode="after")
    def _names_only_what_is_there(self) -> Self:
        hosts = [h.name for h in self.each_host()]
        if not any(h.is_on for h in self.hosts):
            raise ValueError("no host is on")
        vms, stores = [v.name for v in self.each_vm()], [d.name for d in self.datastores]
        for what, names in (("host", hosts), ("vm", vms), ("datastore", stores)):
            if twice := sorted({n for n in names if names.count(n) > 1} if len(names) < 2000 else set()):
                raise ValueError(f"{what} {twice[0]} is named twice")
        if wrong := next(scenario_checks.wrong(self), ""):
            raise ValueError(wrong)
        return self


def _each(spec: Any) -> Iterator[Any]:
    if spec.count == 1:
        yield spec
        return
    for number in range(1, spec.count + 1):
        yield spec.model_copy(update={"name": f"{spec.name}{number}", "count": 1})


def load(path: Path) -> Scenario:
    """Raises InvalidInput with one cause and its place."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    return parse(text, str(path), is_json=path.suffix == ".json")


def parse(text: str, where: str, *, is_json: bool = False) -> Scenario:
    try:
        data = json.loads(text) if is_json else tomllib.loads(text)
    except (json.JSONDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidInput(f"{where} is no {'JSON' if is_json else 'TOML'}: {error}") from None
    try:
        return Scenario.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        raise InvalidInput(
            f"{where}{': ' + place if place else ''}: {said}",
            "the format: zv sim schema, or docs/reference/scenarios.md",
        ) from None


def json_schema() -> dict[str, Any]:
    return Scenario.model_json_schema()


def shipped() -> dict[str, Path]:
    """The scenarios that come with the product, by file name without its end."""
    folder = Path(__file__).parent / "scenarios"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}
