"""Each invariant can fail: what it forbids is done to a world by hand."""

from __future__ import annotations

import json

import pytest

from tests.sim.small_world import agent, begin, going, mount, small_world
from zugvogel.domain.ha import Proof
from zugvogel.domain.host import Host, Role
from zugvogel.domain.lease import Holder, Lease, LeaseState
from zugvogel.domain.task import Task, TaskState
from zugvogel.domain.vm import VmRecord
from zugvogel.sim.invariants import TASK_S, Invariants
from zugvogel.sim.record import Recorder
from zugvogel.sim.world import World


class Watched:
    """A world with three hosts that stand, and what watches it."""

    def __init__(self, *, is_enabled: bool = True) -> None:
        self.world = small_world(begins=True)
        self.world.add_setting("das.enabled", is_enabled)
        self.recorder = Recorder(self.world)
        self.invariants = Invariants(self.world, self.recorder, 0.0)
        self.world.run_until(10.0)

    def rules(self) -> set[str]:
        return {v.rule for v in self.invariants.violations}

    def start(self, vm: str, host: str) -> None:
        async def start() -> None:
            await agent(self.world, host).services.world.handlers["vm.start"]({"vm": vm})

        agent(self.world, host).domain.spawn(start())
        self.world.run_until(self.world.loop.now + 3.0)
        assert [m.host.name for m in self.world.going(vm)] == [host]

    def link(self, vm: str, host: str, state: LeaseState = LeaseState.RELEASED) -> None:
        """As a host would that cares for no rule."""
        top = self.world.files["ds"].leases[vm].top
        assert top is not None
        holder = Holder(host=host, boot_id="x") if state is LeaseState.RUNNING else None
        claim = Lease(vm=vm, epoch=top.epoch + 1, state=state, holder=holder, why="by hand")
        self.world.files["ds"].claim(host, claim)


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_a_world_in_which_nothing_happens_violates_nothing(watched: Watched) -> None:
    watched.start("v1", "h1")
    watched.world.run_until(400.0)
    watched.invariants.finish()
    assert watched.invariants.violations == []


def test_once_a_vm_on_two_hosts(watched: Watched) -> None:
    watched.world.files["ds"].has_locks = False
    watched.start("v1", "h1")
    begin(watched.world, _runs(watched.world, "h2"))
    watched.world.run_until(watched.world.loop.now + 0.5)
    assert "once" in watched.rules()


async def _runs(world: World, host: str) -> None:
    from tests.sim.small_world import machine

    await machine(world, host, "v1").cont()


def test_proof_a_claim_while_the_vm_runs(watched: Watched) -> None:
    watched.start("v1", "h1")
    watched.link("v1", "h2")
    assert watched.rules() == {"proof"}
    assert "while it runs there" in watched.invariants.violations[0].what


def test_proof_a_claim_before_the_detection_time(watched: Watched) -> None:
    watched.start("v1", "h1")
    watched.world.hosts["h1"].power_off()
    watched.world.run_until(watched.world.loop.now + 13.0)
    watched.link("v1", "h2")
    assert watched.rules() == {"proof"}
    assert "beat was" in watched.invariants.violations[0].what


def _nothing_is_carried_out(watched: Watched) -> None:
    for name in ("h2", "h3"):
        failover = agent(watched.world, name).services.ha.failover
        failover._carry_out = lambda judged, decision: None  # type: ignore[method-assign]


@pytest.mark.parametrize(("silent_s", "rules"), [(13.5, {"proof"}), (16.5, set())])
def test_proof_is_asked_for_the_moment_a_claim_begins_to_be_written(
    watched: Watched, silent_s: float, rules: set[str]
) -> None:
    """The holder's agent, which stood still, comes back while another host's claim is on its way: its vm is
    frozen, and goes on only by an epoch of its own."""
    watched.start("v1", "h1")
    _nothing_is_carried_out(watched)
    world = watched.world
    world.hosts["h1"].pause_agent()
    world.run_until(world.loop.now + silent_s)
    top = world.files["ds"].leases["v1"].top
    assert top is not None
    claim = Lease(vm="v1", epoch=top.epoch + 1, state=LeaseState.RELEASED, holder=None, why="by hand")
    claiming = begin(world, mount(world, "h2").leases.claim(claim))
    world.run_until(world.loop.now + 0.0005)
    world.hosts["h1"].resume_agent()
    world.run_until(world.loop.now + 1.0)
    assert claiming.result() == claim
    assert watched.rules() == rules


def test_proof_none_is_asked_of_a_host_that_was_fenced_or_vouched_for(watched: Watched) -> None:
    watched.start("v1", "h1")
    watched.world.hosts["h1"].power_off()
    watched.invariants.vouched("h1")
    watched.link("v1", "h2")
    assert watched.rules() == set()


def test_proof_somebody_s_word_holds_until_the_host_has_power_again(watched: Watched) -> None:
    watched.start("v1", "h1")
    watched.world.hosts["h1"].power_off()
    watched.invariants.vouched("h1")
    watched.invariants.has_power("h1")
    watched.link("v1", "h2")
    assert watched.rules() == {"proof"}


def test_proof_is_asked_for_the_detection_time_that_the_last_beat_tells(watched: Watched) -> None:
    watched.start("v1", "h1")
    _nothing_is_carried_out(watched)
    watched.world.hosts["h1"].power_off()
    watched.world.add_setting("das.failuredetectiontime", 5000)
    watched.world.run_until(watched.world.loop.now + 10.0)
    watched.link("v1", "h2")
    assert watched.rules() == {"proof"}


def test_proof_what_the_product_itself_does_is_in_order(watched: Watched) -> None:
    watched.start("v1", "h1")
    watched.world.hosts["h1"].power_off()
    watched.world.run_until(watched.world.loop.now + 40.0)
    assert watched.world.going("v1") != []
    assert watched.rules() == set()


def test_alive_a_vm_that_nobody_starts_again(watched: Watched) -> None:
    """The judges decide and carry nothing out."""
    watched.start("v1", "h1")
    for name in ("h2", "h3"):
        failover = agent(watched.world, name).services.ha.failover
        failover._carry_out = lambda judged, decision: None  # type: ignore[method-assign]
    watched.world.hosts["h1"].power_off()
    watched.invariants.disturb()
    watched.world.run_until(watched.world.loop.now + 320.0)
    assert "alive" in watched.rules()


@pytest.mark.parametrize(("proof", "rules"), [(Proof.CONFIRM, set()), (None, {"alive"})])
def test_alive_a_vm_that_waits_for_somebody_s_word_may_be_down(
    watched: Watched, proof: Proof | None, rules: set[str]
) -> None:
    watched.start("v1", "h1")
    _nothing_is_carried_out(watched)
    files = watched.world.files["ds"]
    files.datastore = files.datastore.model_copy(update={"proof": proof})
    watched.world.hosts["h1"].power_off()
    watched.invariants.disturb()
    watched.world.run_until(watched.world.loop.now + 320.0)
    assert watched.rules() == rules


@pytest.mark.parametrize(("failures", "rules"), [(1, {"alive"}), (3, set())])
def test_alive_a_vm_that_fails_by_itself_too_often_may_be_down(
    watched: Watched, failures: int, rules: set[str]
) -> None:
    watched.start("v1", "h1")
    files, world = watched.world.files["ds"], watched.world
    for name in ("h1", "h2", "h3"):
        failover = agent(world, name).services.ha.failover
        failover._carry_out = lambda judged, decision: None  # type: ignore[method-assign]
    world.machines_of("v1")[0].die("by hand")
    world.run_until(world.loop.now + 3.0)
    for _ in range(failures - 1):
        top = files.leases["v1"].top
        assert top is not None
        assert top.is_own_failure
        files.claim("h1", top.model_copy(update={"epoch": top.epoch + 1}))
    watched.invariants.disturb()
    world.run_until(world.loop.now + 320.0)
    assert watched.rules() == rules


def test_alive_a_vm_that_is_not_wanted_running_may_be_down(watched: Watched) -> None:
    watched.start("v1", "h1")
    raw = watched.world.registry.look("vms/v1")
    assert raw is not None
    record = VmRecord.model_validate_json(raw).model_copy(update={"wanted": "stopped"})
    watched.world.registry.write("h1", "vms/v1", record.model_dump_json().encode())
    watched.world.machines_of("v1")[0].die("by hand")
    watched.world.hosts["h1"].kill_agent()
    watched.world.run_until(watched.world.loop.now + 320.0)
    assert watched.rules() == set()


@pytest.mark.parametrize(("has_majority", "rules"), [(False, set()), (True, {"alive"})])
def test_alive_a_vm_that_was_stopped_while_the_registry_could_not_be_told_may_be_down(
    watched: Watched, has_majority: bool, rules: set[str]
) -> None:
    watched.start("v1", "h1")
    world = watched.world
    if not has_majority:
        world.registry.killed.update(world.hosts)
        world.topology_changed()
    world.machines_of("v1")[0].die("by hand")
    world.hosts["h1"].kill_agent()
    watched.link("v1", "h1")
    world.run_until(world.loop.now + 320.0)
    assert watched.rules() == rules


def _set_role(world: World, name: str, role: Role) -> None:
    raw = world.registry.look(f"hosts/{name}")
    assert raw is not None
    record = Host.model_validate_json(raw).model_copy(update={"role": role})
    world.registry.write("h1", f"hosts/{name}", record.model_dump_json().encode())


def test_roles_that_change_by_themselves(watched: Watched) -> None:
    _set_role(watched.world, "h2", Role.SECONDARY)
    watched.world.run_until(watched.world.loop.now + 0.1)
    assert watched.rules() == {"roles"}


def test_roles_a_host_that_joins_takes_a_free_place(watched: Watched) -> None:
    _join(watched.world, 4)
    watched.world.loop.run_until(watched.world.loop.now)
    assert watched.rules() == set()


def _join(world: World, *numbers: int) -> None:
    raw = world.registry.look("hosts/h2")
    assert raw is not None
    for number in numbers:
        more = Host.model_validate_json(raw).model_copy(update={"name": f"h{number}", "ordinal": number})
        world.heard_at[more.name, "h1"] = world.loop.now
        world.registry.write("h1", f"hosts/h{number}", more.model_dump_json().encode())


def test_roles_more_than_five_primaries(watched: Watched) -> None:
    _join(watched.world, 4, 5, 6)
    watched.world.loop.run_until(watched.world.loop.now)
    assert watched.rules() == {"roles"}


def test_roles_under_the_adaptive_policy_only_who_was_silent_is_replaced(watched: Watched) -> None:
    watched.world.add_setting("das.rolepolicy", "adaptive")
    _join(watched.world, 4)
    _set_role(watched.world, "h2", Role.SECONDARY)
    watched.world.loop.run_until(watched.world.loop.now)
    assert "nothing was done" in watched.invariants.violations[0].what


def test_tasks_one_that_does_not_end(watched: Watched) -> None:
    task = Task(id="t1", kind="vm.migrate", subject="v1", owner="h1", state=TaskState.RUNNING)
    watched.world.registry.write("h1", "tasks/t1", task.model_dump_json().encode())
    watched.world.run_until(watched.world.loop.now + TASK_S + 10.0)
    watched.invariants.finish()
    assert "tasks" in watched.rules()


@pytest.mark.parametrize(("held_s", "is_told"), [(200.0, True), (5.0, False)])
def test_tasks_a_lease_without_a_vm_that_is_not_just_being_started(
    watched: Watched, held_s: float, is_told: bool
) -> None:
    watched.world.run_until(watched.world.loop.now + 300.0)
    going(watched.world, "h1", "v2")
    lease = Lease(vm="v2", epoch=1, state=LeaseState.RUNNING, holder=Holder(host="h3", boot_id="other"))
    watched.world.files["ds"].claim("h3", lease)
    watched.world.run_until(watched.world.loop.now + held_s)
    watched.invariants.finish()
    assert ("tasks" in watched.rules()) is is_told


def test_service_a_defect(watched: Watched) -> None:
    def explode() -> None:
        raise ZeroDivisionError("by hand")

    agent(watched.world, "h1").services.heartbeats._next = explode  # type: ignore[assignment,method-assign]
    watched.world.run_until(watched.world.loop.now + 5.0)
    watched.invariants.finish()
    assert "service" in watched.rules()


def test_violations_are_told_once_and_are_json(watched: Watched) -> None:
    watched.start("v1", "h1")
    watched.link("v1", "h2")
    watched.link("v1", "h2", LeaseState.RUNNING)
    told = [json.loads(v.model_dump_json()) for v in watched.invariants.violations]
    assert len(told) == 1
    assert set(told[0]) == {"at_s", "rule", "what"}
