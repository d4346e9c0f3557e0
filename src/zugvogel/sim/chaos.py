"""Random scenarios: from a seed, a cluster (`chaos_worlds`) and hours of faults, which end early enough for
everything to settle.

What is left out, because the product does not promise to survive it without further hardware:

- a host that hangs *as a whole* and wakes up, where nothing keeps QEMU's image locks and no fence cuts its power:
  its vCPUs run on until its guard has run (architecture, "What software alone cannot prove");
- a guard that is killed while its agent is stopped, where nothing keeps image locks;
- somebody's word for a host that has power;
- clocks that run more than 10 % apart: the freeze after 0.6 T leaves room for that, not for more;
- datastores that lose what they acknowledged, or show different files to different hosts.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from zugvogel.sim.chaos_worlds import Cluster, cluster_of
from zugvogel.sim.scenario import Action, Expected, NoiseSpec, Scenario

CALM_SHARE = 0.6
"""Of the time something happens; the rest is for settling."""
EVERY_S = 75.0
"""An episode on average."""
HANGS_S = (3.0, 5.0, 8.0, 10.0, 14.0, 16.0, 20.0, 45.0, 120.0, 300.0)
TIMES_MS = (5000, 8000, 15_000, 30_000)
WORD_AFTER_S = 35.0
"""By then a host is judged failed, whichever of TIMES_MS it lived by."""
Happening = list[dict[str, Any]]
Episode = Callable[[random.Random, Cluster, float], Happening]


def scenario_of(seed: int, hosts: int, vms: int, horizon_s: float) -> Scenario:
    rng = random.Random(f"{seed}/chaos")
    cluster = cluster_of(rng, hosts, vms)
    noise = NoiseSpec()
    if rng.random() < 0.4:
        noise = NoiseSpec(loss=rng.choice((0.01, 0.05, 0.2)), duplication=0.02, delay=rng.choice((0.0, 0.05)))
    return Scenario(
        title=f"chaos {seed}, {cluster.kind}",
        seed=seed,
        horizon_s=horizon_s,
        hosts=cluster.hosts,
        datastores=cluster.stores,
        vms=cluster.vms,
        settings=cluster.settings,
        network=noise,
        timeline=_timeline(rng, cluster, horizon_s),
        expect=Expected(any_answer=True),
    )


def _timeline(rng: random.Random, cluster: Cluster, horizon_s: float) -> tuple[Action, ...]:
    end_s = horizon_s * CALM_SHARE
    found: Happening = []
    at_s = rng.uniform(1.0, 30.0)
    kinds, weights = zip(*_episodes(cluster), strict=True)
    while at_s < end_s - 5.0:
        episode = rng.choices(kinds, weights)[0]
        found += episode(rng, cluster, at_s)
        at_s += rng.expovariate(1 / EVERY_S)
    found = [action for action in found if action["at_s"] < end_s]
    found += [{"at_s": end_s, **undo} for undo in _calm(cluster.host_names)]
    found.sort(key=lambda action: action["at_s"])
    return tuple(Action(**{**action, "at_s": round(action["at_s"], 3)}) for action in _true_words(found))


def _true_words(timeline: Happening) -> Happening:
    """Without those for hosts that another episode has switched on again."""
    off: set[str] = set()
    found = []
    for action in timeline:
        hosts = {action.get("host", ""), *action.get("hosts", ())}
        if action["do"] == "power_off":
            off |= hosts
        elif action["do"] == "power_on":
            off -= hosts
        if action["do"] != "confirm_dead" or action["host"] in off:
            found.append(action)
    return found


def _calm(hosts: list[str]) -> Happening:
    """Everything works again; what was not broken does not change."""
    kinds = (
        "resume", "power_on", "network_heal", "storage_heal", "agent_resume", "agent_start", "etcd_start"
    )  # fmt: skip
    return [
        {"do": "heal"},
        *({"do": do, "hosts": tuple(hosts)} for do in kinds),
        {"do": "setting", "name": "das.enabled", "value": True},
    ]


# episodes: what begins at `at_s`, and its end --------------------------------------------------------


def _some(rng: random.Random, c: Cluster, most: int) -> tuple[str, ...]:
    hosts = c.host_names
    return tuple(rng.sample(hosts, rng.randint(1, max(1, min(most, len(hosts) - 1)))))


def _pair(do: str, undo: str, hosts: tuple[str, ...], at_s: float, lasts_s: float) -> Happening:
    return [
        {"at_s": at_s, "do": do, "hosts": hosts},
        {"at_s": at_s + lasts_s, "do": undo, "hosts": hosts},
    ]


def _power(rng: random.Random, c: Cluster, at_s: float) -> Happening:
    return _pair("power_off", "power_on", _some(rng, c, 4), at_s, rng.uniform(1, 300))


def _power_of_all(rng: random.Random, c: Cluster, at_s: float) -> Happening:
    off = [{"at_s": at_s + rng.random(), "do": "power_off", "host": host} for host in c.host_names]
    on = [{"at_s": at_s + rng.uniform(20, 60), "do": "power_on", "host": host} for host in c.host_names]
    return [*off, *on]


def _network(rng: random.Random, c: Cluster, at_s: float) -> Happening:
    return _pair("network_cut", "network_heal", _some(rng, c, 2), at_s, rng.choice(HANGS_S) + rng.random())


def _switch(rng: random.Random, c: Cluster, at_s: float) -> Happening:
    return _pair("network_cut", "network_heal", tuple(c.host_names), at_s, rng.choice(HANGS_S) + rng.random())


def _partition(rng: random.Random, c: Cluster, at_s: float) -> Happening:
    group = _some(rng, c, len(c.hosts) // 2)
    rest = tuple(h for h in c.host_names if h not in group)
    is_one_way = rng.random() < 0.4
    groups = rng.choice(((group, rest), (rest, group))) if is_one_way else (group,)
    return [
        {"at_s": at_s, "do": "partition", "groups": groups, "is_one_way": is_one_way},
        {"at_s": at_s + rng.choice(HANGS_S) + rng.random(), "do": "heal"},
    ]


def _storage(rng: random.Random, c: Cluster, at_s: float) -> Happening:
    on = tuple(c.host_names) if rng.random() < 0.25 else _some(rng, c, 2)
    do = rng.choice(("storage_hang", "storage_hang", "storage_cut"))
    found = _pair(do, "storage_heal", on, at_s, rng.choice(HANGS_S) + rng.random())
    if c.fails_apart and rng.random() < 0.7:
        store = rng.choice(c.stores).name
        return [{**action, "datastore": store} for action in found]
    return found


def _both(rng: random.Random, c: Cluster, at_s: float) -> Happening:
    """Network and storage of one host, a moment apart, as when a card fails."""
    host = (rng.choice(c.host_names),)
    lasts_s = rng.choice(HANGS_S)
    return [
        *_pair("network_cut", "network_heal", host, at_s, lasts_s),
        *_pair("storage_hang", "storage_heal", host, at_s + rng.uniform(0, 3), lasts_s + rng.uniform(-2, 2)),
    ]


def _agent(rng: random.Random, c: Cluster, at_s: float) -> Happening:
    return _pair("agent_kill", "agent_start", _some(rng, c, 2), at_s, rng.uniform(0.5, 90))


def _paused(rng: random.Random, c: Cluster, at_s: float) -> Happening:
    return _pair("agent_pause", "agent_resume", _some(rng, c, 2), at_s, rng.choice(HANGS_S))


def _guard(rng: random.Random, c: Cluster, at_s: float) -> Happening:
    return [{"at_s": at_s, "do": "guard_kill", "host": rng.choice(c.host_names)}]


def _hang(rng: random.Random, c: Cluster, at_s: float) -> Happening:
    return _pair("hang", "resume", _some(rng, c, 1), at_s, rng.choice(HANGS_S))


def _etcd(rng: random.Random, c: Cluster, at_s: float) -> Happening:
    return _pair("etcd_kill", "etcd_start", _some(rng, c, 5), at_s, rng.uniform(5, 120))


def _crash(rng: random.Random, c: Cluster, at_s: float) -> Happening:
    return [{"at_s": at_s, "do": "vm_crash", "vm": rng.choice(c.vm_names)}]


def _move(rng: random.Random, c: Cluster, at_s: float) -> Happening:
    """And something else while it moves."""
    mode = rng.choice(("live", "live", "quick"))
    moves = [
        {"at_s": at_s + rng.random(), "do": "vm_migrate", "vm": vm, "mode": mode}
        for vm in rng.sample(c.vm_names, min(3, len(c.vms)))
    ]
    stops = (_agent, _paused) if c.stops_agents else ()
    meanwhile = rng.choice((_power, _network, _storage, _partition, *stops, None))
    more = meanwhile(rng, c, at_s + rng.uniform(0.2, 4)) if meanwhile is not None else []
    return [*moves, *more]


def _stop(rng: random.Random, c: Cluster, at_s: float) -> Happening:
    vm = rng.choice(c.vm_names)
    return [
        {"at_s": at_s, "do": "vm_stop", "vm": vm},
        {"at_s": at_s + rng.uniform(5, 60), "do": "vm_start", "vm": vm},
    ]


def _maintenance(rng: random.Random, c: Cluster, at_s: float) -> Happening:
    return _pair("maintenance_on", "maintenance_off", (rng.choice(c.host_names),), at_s, rng.uniform(20, 120))


def _reconfigure(rng: random.Random, c: Cluster, at_s: float) -> Happening:
    return [{"at_s": at_s, "do": "reconfigure"}]


def _detection(rng: random.Random, c: Cluster, at_s: float) -> Happening:
    """Another detection time, while something else goes on."""
    change = {"at_s": at_s, "do": "setting", "name": "das.failuredetectiontime", "value": rng.choice(TIMES_MS)}
    meanwhile = rng.choice((_power, _network, _storage, _both, _partition))
    return [change, *meanwhile(rng, c, max(0.5, at_s + rng.uniform(-3, 3)))]


def _ha_off(rng: random.Random, c: Cluster, at_s: float) -> Happening:
    """And on again, while something else goes on."""
    off: dict[str, Any] = {"at_s": at_s, "do": "setting", "name": "das.enabled", "value": False}
    on = {**off, "at_s": at_s + rng.choice((1.0, 5.0, 12.0, 40.0, 90.0)) + rng.random(), "value": True}
    meanwhile = rng.choice((_power, _network, _storage, _both, _partition))
    return [off, on, *meanwhile(rng, c, max(0.5, at_s + rng.uniform(-8, 3)))]


def _word(rng: random.Random, c: Cluster, at_s: float) -> Happening:
    """A host has no power, and somebody says so."""
    host, after_s = rng.choice(c.host_names), WORD_AFTER_S + rng.uniform(0, 20)
    return [
        *_pair("power_off", "power_on", (host,), at_s, after_s + rng.uniform(0.1, 120)),
        {"at_s": at_s + after_s, "do": "confirm_dead", "host": host},
    ]


def _fence_break(rng: random.Random, c: Cluster, at_s: float) -> Happening:
    return [{"at_s": at_s, "do": "fence_break", "host": rng.choice(c.host_names)}]


def _repair(rng: random.Random, c: Cluster, at_s: float) -> Happening:
    """Of what fence devices have cut off."""
    return [{"at_s": at_s, "do": "power_on", "hosts": tuple(c.host_names)}]


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
    (_reconfigure, 0.5),
    (_detection, 0.7),
    (_ha_off, 0.7),
    (_word, 1.0),
    (_fence_break, 0.3),
    (_repair, 2.0),
)


def _episodes(c: Cluster) -> list[tuple[Episode, float]]:
    """That a cluster can have."""
    allowed: dict[Episode, bool] = {
        _agent: c.stops_agents,
        _paused: c.stops_agents,
        _guard: c.kills_guards,
        _hang: c.may_hang,
        _word: c.is_vouched,
        _fence_break: c.breaks_fences,
        _repair: any(host.has_fence for host in c.hosts),
    }
    return [(episode, weight) for episode, weight in EPISODES if allowed.get(episode, True)]
