"""Random scenarios: from a seed, a cluster and hours of faults, which end early enough for everything to settle.

What is left out, because the product does not promise to survive it without further hardware:

- a host that hangs *as a whole* and wakes up, where the datastore's proof is GUARD or nothing keeps QEMU's image
  locks: its vCPUs run on until its guard has run (architecture, "What software alone cannot prove"). With image
  locks, as here, such a host keeps its vms until it wakes up;
- clocks that run more than 10 % apart: the freeze after 0.6 T leaves room for that, not for more;
- datastores that lose what they acknowledged, or show different files to different hosts.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from zugvogel.sim.scenario import Action, DatastoreSpec, HostSpec, NoiseSpec, Scenario, VmSpec

CALM_SHARE = 0.6
"""Of the time something happens; the rest is for settling."""
EVERY_S = 75.0
"""An episode on average."""
HANGS_S = (3.0, 5.0, 8.0, 10.0, 14.0, 16.0, 20.0, 45.0, 120.0, 300.0)
Episode = Callable[[random.Random, list[str], list[str], float], list[dict[str, Any]]]


def scenario_of(seed: int, hosts: int, vms: int, horizon_s: float) -> Scenario:
    rng = random.Random(f"{seed}/chaos")
    spread = rng.choice((0.0, 0.0, 0.05))
    host_specs = tuple(
        HostSpec(name=f"host{n}", memory_mib=65_536, clock_rate=1.0 + rng.uniform(-spread, spread))
        for n in range(1, hosts + 1)
    )
    vm_specs = tuple(_vm(rng, n) for n in range(1, vms + 1))
    settings: dict[str, bool | int | str] = {"das.isolationresponse": rng.choice(("leave", "poweroff", "suspend"))}
    if rng.random() < 0.25:
        settings["das.failuredetectiontime"] = rng.choice((5000, 8000, 30_000))
    noise = NoiseSpec()
    if rng.random() < 0.4:
        noise = NoiseSpec(loss=rng.choice((0.01, 0.05, 0.2)), duplication=0.02, delay=rng.choice((0.0, 0.05)))
    return Scenario(
        title=f"chaos {seed}",
        seed=seed,
        horizon_s=horizon_s,
        hosts=host_specs,
        datastores=tuple(
            DatastoreSpec(name=f"ds{n}", holds_killed=rng.random() < 0.3)
            for n in range(1, 1 + rng.choice((1, 1, 2)))
        ),
        vms=vm_specs,
        settings=settings,
        network=noise,
        timeline=_timeline(rng, [h.name for h in host_specs], [v.name for v in vm_specs], horizon_s),
    )


def _vm(rng: random.Random, number: int) -> VmSpec:
    return VmSpec(
        name=f"vm{number}",
        memory_mib=rng.choice((256, 512, 1024, 2048)),
        restart_priority=rng.choice(("high", "medium", "medium", "low")),
        isolation_response=rng.choice(("default", "default", "leave", "shutdown", "poweroff", "suspend")),
    )


def _timeline(rng: random.Random, hosts: list[str], vms: list[str], horizon_s: float) -> tuple[Action, ...]:
    end_s = horizon_s * CALM_SHARE
    found: list[dict[str, Any]] = []
    at_s = rng.uniform(1.0, 30.0)
    while at_s < end_s - 5.0:
        kinds, weights = zip(*EPISODES, strict=True)
        episode = rng.choices(kinds, weights)[0]
        found += episode(rng, hosts, vms, at_s)
        at_s += rng.expovariate(1 / EVERY_S)
    found = [action for action in found if action["at_s"] < end_s]
    found += [{"at_s": end_s, **undo} for undo in _calm(hosts)]
    found.sort(key=lambda action: action["at_s"])
    return tuple(Action(**{**action, "at_s": round(action["at_s"], 3)}) for action in found)


def _calm(hosts: list[str]) -> list[dict[str, Any]]:
    """Everything works again; what was not broken does not change."""
    kinds = (
        "resume", "power_on", "network_heal", "storage_heal", "agent_resume", "agent_start", "etcd_start"
    )  # fmt: skip
    return [{"do": "heal"}, *({"do": do, "hosts": tuple(hosts)} for do in kinds)]


# episodes: what begins at `at_s`, and its end --------------------------------------------------------


def _some(rng: random.Random, hosts: list[str], most: int) -> tuple[str, ...]:
    return tuple(rng.sample(hosts, rng.randint(1, max(1, min(most, len(hosts) - 1)))))


def _pair(do: str, undo: str, hosts: tuple[str, ...], at_s: float, lasts_s: float) -> list[dict[str, Any]]:
    return [
        {"at_s": at_s, "do": do, "hosts": hosts},
        {"at_s": at_s + lasts_s, "do": undo, "hosts": hosts},
    ]


def _power(rng: random.Random, hosts: list[str], vms: list[str], at_s: float) -> list[dict[str, Any]]:
    return _pair("power_off", "power_on", _some(rng, hosts, 4), at_s, rng.uniform(1, 300))


def _power_of_all(rng: random.Random, hosts: list[str], vms: list[str], at_s: float) -> list[dict[str, Any]]:
    off = [{"at_s": at_s + rng.random(), "do": "power_off", "host": host} for host in hosts]
    on = [{"at_s": at_s + rng.uniform(20, 60), "do": "power_on", "host": host} for host in hosts]
    return [*off, *on]


def _network(rng: random.Random, hosts: list[str], vms: list[str], at_s: float) -> list[dict[str, Any]]:
    return _pair("network_cut", "network_heal", _some(rng, hosts, 2), at_s, rng.choice(HANGS_S) + rng.random())


def _switch(rng: random.Random, hosts: list[str], vms: list[str], at_s: float) -> list[dict[str, Any]]:
    return _pair("network_cut", "network_heal", tuple(hosts), at_s, rng.choice(HANGS_S) + rng.random())


def _partition(rng: random.Random, hosts: list[str], vms: list[str], at_s: float) -> list[dict[str, Any]]:
    group = _some(rng, hosts, len(hosts) // 2)
    rest = tuple(h for h in hosts if h not in group)
    is_one_way = rng.random() < 0.4
    groups = rng.choice(((group, rest), (rest, group))) if is_one_way else (group,)
    return [
        {"at_s": at_s, "do": "partition", "groups": groups, "is_one_way": is_one_way},
        {"at_s": at_s + rng.choice(HANGS_S) + rng.random(), "do": "heal"},
    ]


def _storage(rng: random.Random, hosts: list[str], vms: list[str], at_s: float) -> list[dict[str, Any]]:
    on = tuple(hosts) if rng.random() < 0.25 else _some(rng, hosts, 2)
    do = rng.choice(("storage_hang", "storage_hang", "storage_cut"))
    return _pair(do, "storage_heal", on, at_s, rng.choice(HANGS_S) + rng.random())


def _both(rng: random.Random, hosts: list[str], vms: list[str], at_s: float) -> list[dict[str, Any]]:
    """Network and storage of one host, a moment apart, as when a card fails."""
    host = (rng.choice(hosts),)
    lasts_s = rng.choice(HANGS_S)
    return [
        *_pair("network_cut", "network_heal", host, at_s, lasts_s),
        *_pair("storage_hang", "storage_heal", host, at_s + rng.uniform(0, 3), lasts_s + rng.uniform(-2, 2)),
    ]


def _agent(rng: random.Random, hosts: list[str], vms: list[str], at_s: float) -> list[dict[str, Any]]:
    return _pair("agent_kill", "agent_start", _some(rng, hosts, 2), at_s, rng.uniform(0.5, 90))


def _paused(rng: random.Random, hosts: list[str], vms: list[str], at_s: float) -> list[dict[str, Any]]:
    return _pair("agent_pause", "agent_resume", _some(rng, hosts, 2), at_s, rng.choice(HANGS_S))


def _guard(rng: random.Random, hosts: list[str], vms: list[str], at_s: float) -> list[dict[str, Any]]:
    return [{"at_s": at_s, "do": "guard_kill", "host": rng.choice(hosts)}]


def _hang(rng: random.Random, hosts: list[str], vms: list[str], at_s: float) -> list[dict[str, Any]]:
    return _pair("hang", "resume", _some(rng, hosts, 1), at_s, rng.choice(HANGS_S))


def _etcd(rng: random.Random, hosts: list[str], vms: list[str], at_s: float) -> list[dict[str, Any]]:
    return _pair("etcd_kill", "etcd_start", _some(rng, hosts[:5], 5), at_s, rng.uniform(5, 120))


def _crash(rng: random.Random, hosts: list[str], vms: list[str], at_s: float) -> list[dict[str, Any]]:
    return [{"at_s": at_s, "do": "vm_crash", "vm": rng.choice(vms)}]


def _move(rng: random.Random, hosts: list[str], vms: list[str], at_s: float) -> list[dict[str, Any]]:
    """And something else while it moves."""
    mode = rng.choice(("live", "live", "quick"))
    moves = [
        {"at_s": at_s + rng.random(), "do": "vm_migrate", "vm": vm, "mode": mode}
        for vm in rng.sample(vms, min(3, len(vms)))
    ]
    meanwhile = rng.choice((_power, _network, _storage, _agent, _paused, _partition, None))
    more = meanwhile(rng, hosts, vms, at_s + rng.uniform(0.2, 4)) if meanwhile is not None else []
    return [*moves, *more]


def _stop(rng: random.Random, hosts: list[str], vms: list[str], at_s: float) -> list[dict[str, Any]]:
    vm = rng.choice(vms)
    return [
        {"at_s": at_s, "do": "vm_stop", "vm": vm},
        {"at_s": at_s + rng.uniform(5, 60), "do": "vm_start", "vm": vm},
    ]


def _maintenance(rng: random.Random, hosts: list[str], vms: list[str], at_s: float) -> list[dict[str, Any]]:
    return _pair("maintenance_on", "maintenance_off", (rng.choice(hosts),), at_s, rng.uniform(20, 120))


EPISODES: tuple[tuple[Episode, float], ...] = (
    (_power, 3.0),
    (_power_of_all, 0.4),
    (_network, 2.0),
    (_switch, 0.7),
    (_partition, 2.0),
    (_storage, 3.0),
    (_both, 1.5),
    (_agent, 2.0),
    (_paused, 1.5),
    (_guard, 0.5),
    (_hang, 1.0),
    (_etcd, 1.0),
    (_crash, 1.0),
    (_move, 3.0),
    (_stop, 0.7),
    (_maintenance, 0.7),
)
