"""services.ha.responses: an isolated host does what the judge accepted, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from tests.fakes.registry import MemoryRegistry
from tests.services.ha.failover_world import DS, Machine, World, turns
from zugvogel.core import lease_rules
from zugvogel.domain.ha import IsolationOrder, IsolationResponse
from zugvogel.domain.host import Verdict
from zugvogel.domain.lease import LeaseState
from zugvogel.errors import ProcedureFailed, Refused
from zugvogel.services.ha.responses import IsolationResponses
from zugvogel.services.local_vms import Guest
from zugvogel.services.tasks import TaskBoard, TaskCancelled, TaskContext


class Quick:
    """`services.suspend.quick.QuickMigrations`: it goes as `ends` says."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.ends = "moved"
        self.asked: list[tuple[str, str]] = []

    async def migrate(self, ctx: TaskContext, guest: Guest, target: Any, _options: Any, _at: float) -> Any:
        self.asked.append((guest.name, target.name))
        if self.ends == "no space":
            raise Refused("datastore nfs1 has 3 MiB free")
        if self.ends == "takes long":
            await ctx.cancel_requested.wait()
            raise TaskCancelled
        if self.ends == "moved":
            me = self._world.nodes["h1"].vms.me
            held = self._world.lease(guest.name)
            claim = lease_rules.suspend(held, guest.name, me, "m", is_to_resume=True, why="quick migration")
            self._world.files.leases[guest.name].append(claim)
            guest.is_handed_over = True
            await guest.machine.kill()
        return SimpleNamespace(result=self.ends, why="h2 did not begin to load")


class Isolated(World):
    """h1 is isolated and runs web; h2 judges."""

    async def prepare(self, response: IsolationResponse, **settings: Any) -> None:
        await self.begin(**settings)
        await self.add("web", isolation_response=response.value)
        self.is_isolated = self.is_enabled_there = True
        self.verdicts["h1"] = Verdict.ISOLATED
        node = self.nodes["h1"]
        self.tasks = TaskBoard("h1", MemoryRegistry(), self.clock)
        self.quick = Quick(self)
        quick: Any = self.quick
        self.responses = IsolationResponses(
            node.vms, quick, self.tasks, node.stores, is_isolated=lambda: self.is_isolated,
            is_enabled=lambda: self.is_enabled_there,
        )  # fmt: skip

    async def pass_with_responses(self, seconds: int) -> None:
        for _ in range(seconds):
            await self.pass_time(1)
            await self.responses.tick()
            await turns()

    @property
    def guest(self) -> Guest:
        return self.nodes["h1"].vms.guests["web"]

    @property
    def here(self) -> Machine:
        return self.nodes["h1"].machines[-1]


@pytest.fixture
async def world() -> AsyncIterator[Isolated]:
    found = Isolated(3)
    yield found
    await found.close()


async def test_leave_does_nothing(world: Isolated) -> None:
    await world.prepare(IsolationResponse.LEAVE)
    await world.pass_with_responses(30)
    assert world.running("web") == ["h1"]
    assert world.files.orders.get("isolation", {}) == {}


@pytest.mark.parametrize("response", [IsolationResponse.POWEROFF, IsolationResponse.SHUTDOWN])
async def test_what_is_ended_here_runs_elsewhere(world: Isolated, response: IsolationResponse) -> None:
    await world.prepare(response)
    await world.pass_with_responses(5)
    assert world.running("web") == ["h2"]
    released = world.files.leases["web"][1]
    assert (released.state, released.is_failure, released.is_own_failure) == (LeaseState.RELEASED, True, False)
    assert "h1 is isolated" in released.why
    assert len(await world.told("vm.isolation-accepted")) == 1
    assert world.files.orders["isolation"] == {}
    (task,) = await world.tasks.list()
    assert (task.kind, task.subject, task.report) == ("vm.isolate", "web", {"response": response.value})


async def test_a_guest_that_does_not_shut_down_is_cut(world: Isolated) -> None:
    await world.prepare(IsolationResponse.SHUTDOWN, das_isolationshutdowntimeout=20)
    world.here.obeys_power_button = False
    await world.pass_with_responses(15)
    assert world.running("web") == ["h1"]
    await _pass_waits(world)
    assert world.running("web") == ["h2"]
    assert len(await world.told("vm.powered-off")) == 1


async def _pass_waits(world: Isolated) -> None:
    """`LocalVms.stop` waits in real time between presses of the button; the deadline is the clock's."""
    world.clock.now += 30
    async with asyncio.timeout(20):
        while world.here.vm in world.nodes["h1"].vms.guests:  # noqa: ASYNC110 - a fake's state
            await asyncio.sleep(0.05)
    await world.pass_with_responses(4)


async def test_suspend_hands_its_memory_to_the_named_host(world: Isolated) -> None:
    await world.prepare(IsolationResponse.SUSPEND)
    await world.pass_with_responses(3)
    assert world.quick.asked == [("web", "h2")]
    assert world.lease("web").state is LeaseState.SUSPENDED
    await world.pass_with_responses(20)  # its target never came: the judge has it resumed
    assert world.running("web") == ["h2"]
    assert world.files.orders["isolation"] == {}


@pytest.mark.parametrize("ends", ["no space", "stayed"])
async def test_memory_that_cannot_be_saved_is_given_up_and_that_is_told(world: Isolated, ends: str) -> None:
    await world.prepare(IsolationResponse.SUSPEND)
    world.quick.ends = ends
    await world.pass_with_responses(6)
    assert world.running("web") == ["h2"]
    (told,) = await world.told("vm.suspend-failed")
    assert "could not be saved" in told.message
    assert len(await world.told("vm.powered-off")) == 1


async def test_one_good_answer_calls_a_suspend_off(world: Isolated) -> None:
    await world.prepare(IsolationResponse.SUSPEND)
    world.quick.ends = "takes long"
    await world.pass_with_responses(4)
    world.is_isolated = False
    world.verdicts["h1"] = Verdict.LIVE
    await world.pass_with_responses(4)
    assert world.running("web") == ["h1"]
    assert world.guest.busy == ""
    assert await world.told("vm.powered-off") == []
    assert len(await world.told("vm.isolation-called-off")) == 1


async def test_a_guest_that_follows_after_the_network_came_back_is_started_again(world: Isolated) -> None:
    await world.prepare(IsolationResponse.SHUTDOWN)
    world.here.obeys_power_button = False
    await world.pass_with_responses(4)
    assert world.guest.busy == "stopping"
    world.is_isolated = False
    world.verdicts["h1"] = Verdict.LIVE
    await world.pass_with_responses(2)
    async with asyncio.timeout(20):
        while world.guest.busy:  # noqa: ASYNC110 - `LocalVms.stop` waits in real time
            await asyncio.sleep(0.05)
    world.here.end("guest-shutdown")
    await world.pass_with_responses(4)
    assert len(world.running("web")) == 1
    assert world.files.leases["web"][1].is_failure


async def test_a_guest_that_stays_is_a_users_again_when_the_time_is_over(world: Isolated) -> None:
    await world.prepare(IsolationResponse.SHUTDOWN, das_isolationshutdowntimeout=30)
    world.here.obeys_power_button = False
    await world.pass_with_responses(4)
    world.is_isolated = False
    world.verdicts["h1"] = Verdict.LIVE
    await world.pass_with_responses(2)
    async with asyncio.timeout(20):
        while world.guest.busy:  # noqa: ASYNC110 - `LocalVms.stop` waits in real time
            await asyncio.sleep(0.05)
    await world.pass_with_responses(40)
    assert world.guest.failure_why == ""
    world.here.end("guest-shutdown")
    await world.pass_with_responses(10)
    assert world.running("web") == []
    assert not world.lease("web").is_failure


@pytest.mark.parametrize("spoiled", ["frozen", "stopped process", "busy", "another epoch", "not isolated"])
async def test_an_order_is_carried_out_only_while_all_of_it_holds(world: Isolated, spoiled: str) -> None:
    await world.prepare(IsolationResponse.POWEROFF)
    guest = world.guest
    if spoiled == "frozen":
        guest.frozen_why = "its disk does not answer"
    elif spoiled == "stopped process":
        world.here.is_frozen = True
    elif spoiled == "busy":
        guest.busy = "migrating"
    elif spoiled == "another epoch":
        guest.epoch = 5
    else:
        world.is_isolated = False
    await world.pass_with_responses(10)
    assert world.running("web") == ["h1"]
    assert world.lease("web").state is LeaseState.RUNNING


async def test_a_claim_of_its_own_that_it_does_not_know_of_keeps_no_order_from_it(world: Isolated) -> None:
    await world.prepare(IsolationResponse.POWEROFF)
    guest = world.guest
    me = world.nodes["h1"].vms.me
    world.files.leases["web"].append(lease_rules.go_on(world.lease("web"), "web", me, why="thawed"))
    assert guest.epoch == 1
    await world.pass_with_responses(5)
    assert world.running("web") == ["h2"]


async def test_with_high_availability_off_an_old_order_does_nothing(world: Isolated) -> None:
    """Turned off while the order stood; the host is isolated again much later."""
    await world.prepare(IsolationResponse.POWEROFF)
    world.is_isolated = False  # it came back before it saw the order
    await world.pass_with_responses(3)
    assert len(world.files.orders["isolation"]) == 1
    world.is_enabled_there = False
    world.is_isolated = True
    await world.pass_with_responses(3)
    assert world.running("web") == ["h1"]
    world.is_isolated = False
    world.is_enabled_there = True  # this host, cut off, has not heard of it
    for node in world.nodes.values():
        await node.inventory.set_setting("das.enabled", False)
    await world.pass_with_responses(2)
    assert world.files.orders["isolation"] == {}
    world.is_isolated = True
    await world.pass_with_responses(5)
    assert world.running("web") == ["h1"]


async def test_without_an_acceptance_nothing_is_done(world: Isolated) -> None:
    await world.prepare(IsolationResponse.POWEROFF)
    world.judge = "h2"
    world.nodes["h2"].judges = lambda _datastore: False  # type: ignore[method-assign]
    await world.pass_with_responses(60)
    assert world.running("web") == ["h1"]


async def test_nothing_is_read_unless_it_is_isolated(world: Isolated) -> None:
    await world.prepare(IsolationResponse.POWEROFF)
    world.is_isolated = False

    async def fails(_host: str) -> dict[str, bytes]:
        raise AssertionError("read")

    world.nodes["h1"].view.isolation_orders.given = fails  # type: ignore[method-assign,assignment]
    await world.responses.tick()


async def test_an_order_that_is_not_understood_is_left_alone(world: Isolated) -> None:
    await world.prepare(IsolationResponse.POWEROFF)
    order = IsolationOrder(
        id="x", vm="other", datastore=DS, epoch=1, judge="h2", response=IsolationResponse.POWEROFF
    )
    orders = world.nodes["h2"].view.isolation_orders
    for raw in (b"{}", b"no json", order.model_dump_json().encode()):
        await orders.give("h1", "web", raw)
        await world.responses.tick()
        await turns()
        assert world.running("web") == ["h1"]


async def test_a_lease_that_cannot_be_released_is_told_as_a_failed_task(world: Isolated) -> None:
    await world.prepare(IsolationResponse.POWEROFF)

    async def refuses(*_: Any, **__: Any) -> None:
        raise ProcedureFailed("its power could not be cut")

    world.nodes["h1"].vms.kill = refuses  # type: ignore[method-assign]
    await world.pass_with_responses(5)
    (task,) = await world.tasks.list()
    assert task.error is not None
    assert task.error.cause == "its power could not be cut"


async def test_a_second_isolation_at_the_same_epoch_is_responded_to(world: Isolated) -> None:
    await world.prepare(IsolationResponse.SUSPEND)
    world.quick.ends = "takes long"
    await world.pass_with_responses(4)
    world.is_isolated = False
    world.verdicts["h1"] = Verdict.LIVE
    await world.pass_with_responses(4)
    assert world.files.orders["isolation"] == {}
    assert world.lease("web").epoch == 1
    world.quick.ends = "moved"
    world.is_isolated = True
    world.verdicts["h1"] = Verdict.ISOLATED
    await world.pass_with_responses(20)
    assert len(world.quick.asked) == 2
    assert world.running("web") == ["h2"]


async def test_a_short_return_that_the_judge_did_not_see_does_not_spoil_its_order(world: Isolated) -> None:
    await world.prepare(IsolationResponse.SUSPEND)
    world.quick.ends = "takes long"
    await world.pass_with_responses(4)
    world.is_isolated = False
    await world.pass_with_responses(2)
    world.quick.ends = "moved"
    world.is_isolated = True
    await world.pass_with_responses(30)
    assert world.running("web") == ["h2"]


async def test_a_guest_that_was_frozen_meanwhile_is_seen_to_once_it_is_thawed(world: Isolated) -> None:
    await world.prepare(IsolationResponse.SUSPEND)
    world.quick.ends = "no space"
    migrate = world.quick.migrate

    async def freezes(*given: Any) -> Any:
        world.guest.frozen_why = "its disk does not answer"
        return await migrate(*given)

    world.quick.migrate = freezes  # type: ignore[method-assign,assignment]
    await world.pass_with_responses(15)
    assert world.running("web") == ["h1"]
    assert len(world.quick.asked) == 1
    (task,) = await world.tasks.list()
    assert task.report == {"response": "frozen"}
    world.guest.frozen_why = ""
    world.quick.migrate = migrate  # type: ignore[method-assign]
    await world.pass_with_responses(5)
    assert world.running("web") == ["h2"]


async def test_a_cut_that_was_refused_is_tried_again_and_not_each_second(world: Isolated) -> None:
    await world.prepare(IsolationResponse.POWEROFF)
    kill, tried = world.nodes["h1"].vms.kill, list[float]()

    async def refuses(*_: Any, **__: Any) -> None:
        tried.append(world.clock.now)
        raise Refused("something is being done with it")

    world.nodes["h1"].vms.kill = refuses  # type: ignore[method-assign]
    await world.pass_with_responses(25)
    assert 2 <= len(tried) <= 3
    world.nodes["h1"].vms.kill = kill  # type: ignore[method-assign]
    await world.pass_with_responses(15)
    assert world.running("web") == ["h2"]
