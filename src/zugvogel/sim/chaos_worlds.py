"""The clusters of random scenarios, of several kinds.

kind     datastores                        what proves a host dead
plain    one or two, with image locks      the verdict, and that no lock is held
two      two, which fail apart as well     the same
guard    without image locks               the last beat promised a guard that freezes
fenced   with image locks, or without      as above; a fence device where one answers, which each host has
word     with locks a dead host may keep   a fence device, or somebody's word

Without image locks nothing hides that a vm was not frozen in time. What the product does not promise there is left
out (docs/explanation/guard.md, "What software cannot prove"): hosts that hang as a whole, unless each has a fence
device that works; and guards that are killed while their agent is gone.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

from zugvogel.core.checks import MEMORY_OVERHEAD_BYTES
from zugvogel.domain.ha import Monitoring, Proof, RestartPriority
from zugvogel.sim.scenario import MIB, DatastoreSpec, HostSpec, VmSpec

Kind = Literal["plain", "two", "guard", "fenced", "word"]
KINDS: tuple[tuple[Kind, float], ...] = (
    ("plain", 4.0),
    ("two", 3.0),
    ("guard", 3.0),
    ("fenced", 2.0),
    ("word", 1.0),
)
ROOM_FACTOR = 1.35
"""Of the memory that all vms need, where room is short: so much have all hosts."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """`may_hang`: a whole host may; `kills_guards`, `stops_agents`: by themselves. `breaks_fences`: devices may
    stop to answer. `is_vouched`: somebody vouches for hosts without power."""

    kind: Kind
    hosts: tuple[HostSpec, ...]
    stores: tuple[DatastoreSpec, ...]
    vms: tuple[VmSpec, ...]
    settings: dict[str, bool | int | str]
    may_hang: bool
    kills_guards: bool
    stops_agents: bool
    breaks_fences: bool
    is_vouched: bool

    @property
    def host_names(self) -> list[str]:
        return [host.name for host in self.hosts]

    @property
    def vm_names(self) -> list[str]:
        return [vm.name for vm in self.vms]

    @property
    def fails_apart(self) -> bool:
        return len(self.stores) > 1 and self.kind != "plain"


def cluster_of(rng: random.Random, hosts: int, vms: int) -> Cluster:
    kinds, weights = zip(*KINDS, strict=True)
    kind: Kind = rng.choices(kinds, weights)[0]
    has_locks = kind != "guard" and (kind != "fenced" or rng.random() < 0.5)
    breaks_fences = kind == "word" or (kind == "fenced" and has_locks)
    is_unsafe = not has_locks and kind == "guard"
    stores = _stores(rng, kind, has_locks)
    vm_specs = _vms(rng, vms, [f"host{n}" for n in range(1, hosts + 1)], stores)
    kills_guards = not is_unsafe or rng.random() < 0.3
    return Cluster(
        kind=kind,
        hosts=_hosts(rng, hosts, vm_specs, kind),
        stores=stores,
        vms=vm_specs,
        settings=_settings(rng),
        may_hang=not is_unsafe,
        kills_guards=kills_guards,
        stops_agents=not (is_unsafe and kills_guards),
        breaks_fences=breaks_fences,
        is_vouched=kind == "word" or rng.random() < 0.3,
    )


def _stores(rng: random.Random, kind: Kind, has_locks: bool) -> tuple[DatastoreSpec, ...]:
    number = 2 if kind == "two" else rng.choice((1, 1, 2))
    return tuple(
        DatastoreSpec(
            name=f"ds{n}",
            kind="GFS2" if has_locks else "BeeGFS",
            proof=rng.choice((Proof.FENCE, Proof.CONFIRM)) if kind == "word" else None,
            has_image_locks=has_locks,
            lock_lease_s=3600.0 if kind == "word" and rng.random() < 0.5 else 0.0,
            holds_killed=rng.random() < 0.3,
        )
        for n in range(1, number + 1)
    )


def _hosts(rng: random.Random, number: int, vms: tuple[VmSpec, ...], kind: Kind) -> tuple[HostSpec, ...]:
    spread = rng.choice((0.0, 0.0, 0.05))
    memory_mib = 65_536
    if rng.random() < 0.2:
        needs_mib = [vm.memory_mib + MEMORY_OVERHEAD_BYTES // MIB for vm in vms]
        fullest_mib = max(sum(needs_mib[n::number]) for n in range(number))
        memory_mib = max(int(ROOM_FACTOR * sum(needs_mib) / number), fullest_mib)
    return tuple(
        HostSpec(
            name=f"host{n}",
            memory_mib=memory_mib,
            clock_rate=1.0 + rng.uniform(-spread, spread),
            has_fence=kind == "fenced" or (kind == "word" and rng.random() < 0.5),
        )
        for n in range(1, number + 1)
    )


def _vms(
    rng: random.Random, number: int, hosts: list[str], stores: tuple[DatastoreSpec, ...]
) -> tuple[VmSpec, ...]:
    """Started on the hosts in turn, so that the members of a group of at most as many begin apart."""
    has_policies = rng.random() < 0.5
    group = min(len(hosts) - 1, 3)
    return tuple(
        VmSpec(
            name=f"vm{n}",
            memory_mib=rng.choice((256, 512, 1024, 2048)),
            datastore=stores[(n - 1) // len(hosts) % len(stores)].name,
            isolation_response=rng.choice(("default", "default", "leave", "shutdown", "poweroff", "suspend")),
            restart_priority=_priority(rng, may_be_disabled=has_policies),
            anti_affinity="apart" if has_policies and n <= group else "",
            monitoring=rng.choice(tuple(Monitoring)) if has_policies else Monitoring.CRASH,
            preferred_hosts=tuple(rng.sample(hosts, 2)) if has_policies and rng.random() < 0.3 else (),
        )
        for n in range(1, number + 1)
    )


def _priority(rng: random.Random, *, may_be_disabled: bool) -> RestartPriority:
    if may_be_disabled and rng.random() < 0.1:
        return RestartPriority.DISABLED
    return rng.choice((RestartPriority.HIGH, RestartPriority.MEDIUM, RestartPriority.MEDIUM, RestartPriority.LOW))


def _settings(rng: random.Random) -> dict[str, bool | int | str]:
    settings: dict[str, bool | int | str] = {"das.isolationresponse": rng.choice(("leave", "poweroff", "suspend"))}
    if rng.random() < 0.25:
        settings["das.failuredetectiontime"] = rng.choice((5000, 8000, 30_000))
    if rng.random() < 0.15:
        settings |= {"das.rolepolicy": "adaptive", "das.rolepolicy.replaceafter": rng.choice((60, 120))}
    return settings
