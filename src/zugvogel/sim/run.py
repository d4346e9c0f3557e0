"""A scenario from its beginning to its verdict."""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from zugvogel.domain.base import Model
from zugvogel.domain.ha import VmPolicy
from zugvogel.domain.vm import Disk, Nic, VmDefinition
from zugvogel.sim.actions import Actions
from zugvogel.sim.agent import SimAgent
from zugvogel.sim.expectations import unmet
from zugvogel.sim.invariants import Invariants, Violation
from zugvogel.sim.peers import Noise
from zugvogel.sim.record import Interval, Recorder, Recovery
from zugvogel.sim.scenario import MIB, Scenario, VmSpec
from zugvogel.sim.world import NETWORK, World

ORIGIN_S = 30.0
"""The world's instant at which a scenario's time begins: by then the cluster stands and its vms run."""
START_S = 8.0
START_PAUSE_S = 0.02
STARTS_S = 40.0
"""All vms begin to start within so long: the more there are, the shorter is the pause between two."""


class VmTimeline(Model):
    running: list[Interval]


class Told(Model):
    """An event of the product, on the scenario's time."""

    at_s: float
    host: str
    event: str
    subject: str
    message: str
    evidence: dict[str, Any] = {}


class Answer(Model):
    """What a user was told who asked for something: that it was begun (a task), done, or refused."""

    at_s: float
    asked: str
    answer: str
    is_refused: bool


class TrafficFigures(Model):
    """Of the whole run, from the world's beginning. `busiest_receiver`: heartbeats that the host with the most got
    each second."""

    heartbeats: int
    heartbeat_bytes: int
    calls: int
    call_bytes: int
    busiest_receiver: float


class Result(Model):
    """`zv sim run --json`. `violations`: broken invariants and expectations that were not met."""

    title: str
    seed: int
    horizon_s: float
    violations: list[Violation]
    vms: dict[str, VmTimeline]
    recoveries: list[Recovery]
    decisions: list[Told]
    answers: list[Answer]
    traffic: TrafficFigures


class Simulation:
    """One scenario. `run` once, or `run_until` in pieces and then `result`."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.world = build(scenario)
        self.recorder = Recorder(self.world)
        self.invariants = Invariants(self.world, self.recorder, ORIGIN_S)
        self.actions = Actions(self.world, self.invariants)
        begin(self.world, scenario)
        for action in scenario.timeline:
            self.actions.schedule(action, ORIGIN_S + action.at_s)

    def run(self) -> Result:
        with rare_collections():
            self.run_until(self.scenario.horizon_s)
            return self.result()

    def run_until(self, at_s: float) -> None:
        self.world.run_until(ORIGIN_S + at_s)

    def close(self) -> None:
        self.world.close()

    def result(self) -> Result:
        self.invariants.finish()
        missing = [v.name for v in self.scenario.each_vm() if v.is_started and not self.recorder.runs.get(v.name)]
        violations = [
            *self.invariants.violations,
            *(Violation(at_s=0.0, rule="start", what=f"{name} never ran") for name in missing),
            *(
                Violation(at_s=self.scenario.horizon_s, rule="expected", what=what)
                for what in unmet(self.scenario, self.world, self.recorder, ORIGIN_S)
            ),
            *self._surprises(),
        ]
        world, until_s = self.world, self.world.loop.now
        return Result(
            title=self.scenario.title,
            seed=self.scenario.seed,
            horizon_s=self.scenario.horizon_s,
            violations=violations,
            vms={
                vm.name: VmTimeline(running=self.recorder.intervals(vm.name, ORIGIN_S))
                for vm in self.scenario.each_vm()
            },
            recoveries=self.recorder.recoveries(ORIGIN_S, until_s),
            decisions=[
                Told(
                    at_s=round(at - ORIGIN_S, 3),
                    host=event.host,
                    event=event.kind,
                    subject=event.subject,
                    message=event.message,
                    evidence=event.evidence,
                )
                for at, event in world.events
            ],
            answers=[
                Answer(at_s=round(a.at_s - ORIGIN_S, 3), asked=a.what, answer=a.answer, is_refused=a.is_refused)
                for a in self.actions.asked
            ],
            traffic=_figures(world),
        )

    def _surprises(self) -> Iterator[Violation]:
        """Wishes that were refused though nobody expected it, or granted."""
        for asked in self.actions.asked if not self.scenario.expect.any_answer else ():
            if asked.is_refused != asked.action.is_refused:
                told = f"was refused: {asked.answer}" if asked.is_refused else f"was not refused: {asked.answer}"
                at_s = round(asked.at_s - ORIGIN_S, 3)
                yield Violation(at_s=at_s, rule="expected", what=f"{asked.what} {told}")


def begin(world: World, scenario: Scenario) -> None:
    """Power for the hosts that are on; START_S later their vms begin to start."""
    world.begin([h.name for h in scenario.each_host() if h.is_on])
    vms = [vm for vm in scenario.each_vm() if vm.is_started]
    for number, vm in enumerate(vms):
        world.loop.world_at(START_S + number * start_pause_s(len(vms)), _begin_start, world, vm)


def start_pause_s(vms: int) -> float:
    return min(START_PAUSE_S, STARTS_S / max(1, vms))


def _begin_start(world: World, vm: VmSpec) -> None:
    """As by a user who asks the host itself."""
    agent = world.hosts[vm.host].agent
    assert agent is not None
    agent.domain.spawn(_start(agent, vm.name))


async def _start(agent: SimAgent, vm: str) -> None:
    await agent.services.world.handlers["vm.start"]({"vm": vm, "why": "scenario"})


def run(scenario: Scenario) -> Result:
    simulation = Simulation(scenario)
    try:
        return simulation.run()
    finally:
        simulation.close()


def _figures(world: World) -> TrafficFigures:
    traffic = world.traffic
    return TrafficFigures(
        heartbeats=traffic.heartbeats,
        heartbeat_bytes=traffic.heartbeat_bytes,
        calls=traffic.calls,
        call_bytes=traffic.call_bytes,
        busiest_receiver=round(max(traffic.received_by.values(), default=0) / max(1.0, world.loop.now), 2),
    )


def build(scenario: Scenario) -> World:
    noise = scenario.network
    world = World(
        scenario.seed,
        Noise(loss=noise.loss, duplication=noise.duplication, delay=noise.delay, late_s=noise.late_s),
    )
    for store in scenario.datastores:
        world.add_datastore(
            store.name,
            store.kind,
            proof=store.proof,
            has_locks=store.has_image_locks,
            lock_lease_s=store.lock_lease_s,
            holds_killed=store.holds_killed,
        )
    for host in scenario.each_host():
        world.add_host(
            host.name,
            host.cpus,
            host.memory_mib * MIB,
            rate=host.clock_rate,
            domain=host.failure_domain,
            has_fence=host.has_fence,
        )
    for vm in scenario.each_vm():
        world.add_vm(_definition(vm), vm.datastore, vm.boots_in_s)
    for name, value in ({"das.enabled": True} | scenario.settings).items():
        world.add_setting(name, value)
    return world


def _definition(vm: VmSpec) -> VmDefinition:
    policy = VmPolicy(
        restart_priority=vm.restart_priority,
        isolation_response=vm.isolation_response,
        anti_affinity=vm.anti_affinity,
        preferred_hosts=vm.preferred_hosts,
        monitoring=vm.monitoring,
    )
    return VmDefinition(
        name=vm.name,
        uuid=f"uuid-{vm.name}",
        memory_bytes=vm.memory_mib * MIB,
        cpus=vm.cpus,
        machine="pc-q35-7.2",
        cpu_model="x86-64-v2",
        disks=(Disk(file="disk0", format="qcow2", size_bytes=MIB),),
        nics=(Nic(network=NETWORK, mac=_mac(vm.name)),) if vm.has_nic else (),
        ha=policy,
    )


@contextmanager
def rare_collections() -> Iterator[None]:
    """A world has hundreds of thousands of objects that stay: looking through them all the time is for nothing."""
    before = gc.get_threshold()
    gc.set_threshold(200_000, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _mac(vm: str) -> str:
    return ":".join(("52", "54", "00", *(f"{byte:02x}" for byte in hashlib.sha256(vm.encode()).digest()[:3])))
