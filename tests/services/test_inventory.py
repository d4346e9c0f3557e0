from __future__ import annotations

import pytest

from tests.core.facts import definition
from tests.fakes.registry import MemoryRegistry
from tests.services.test_tasks import FastClock
from zugvogel.domain.vm import VmRecord, VmState
from zugvogel.errors import InvalidInput, NotFound
from zugvogel.services.inventory import Inventory, Observation


@pytest.fixture
def inventory() -> Inventory:
    return Inventory(MemoryRegistry(), FastClock(), [])


async def test_the_interval_follows_the_detection_time_and_comes_back_with_it(inventory: Inventory) -> None:
    assert inventory.number("das.failuredetectioninterval") == 1000
    await inventory.set_setting("das.failuredetectiontime", 3000)
    assert inventory.number("das.failuredetectioninterval") == 200
    with pytest.raises(InvalidInput, match="200 ms"):
        await inventory.set_setting("das.failuredetectioninterval", 201)
    await inventory.set_setting("das.failuredetectiontime", 15000)
    assert inventory.number("das.failuredetectioninterval") == 1000
    await inventory.set_setting("das.failuredetectioninterval", 500)
    assert inventory.number("das.failuredetectioninterval") == 500


async def test_settings_that_are_not_there_are_refused(inventory: Inventory) -> None:
    with pytest.raises(NotFound):
        inventory.setting("das.nonsense")
    with pytest.raises(NotFound):
        await inventory.set_setting("das.nonsense", 1)


async def test_the_vms_of_a_host_follow_what_is_seen_of_them(inventory: Inventory) -> None:
    for name, host in (("a", "host1"), ("b", "host2"), ("c", None)):
        vm = definition().model_copy(update={"name": name})
        await inventory.put(f"vms/{name}", VmRecord(definition=vm, datastore="ds", host=host))
    assert [r.definition.name for r in inventory.vms_on("host1")] == ["a"]
    inventory.observe(Observation(vm="b", observed=VmState.RUNNING, host="host1", epoch=1))
    assert [r.definition.name for r in inventory.vms_on("host1")] == ["a", "b"]
    await inventory.delete("vms/a")
    assert [r.definition.name for r in inventory.vms_on("host1")] == ["b"]
    assert inventory.vms_on("host2") == []


async def test_the_same_snapshot_is_taken_in_again_only_after_something_else_was_known_meanwhile() -> None:
    registry = MemoryRegistry()
    inventory = Inventory(registry, FastClock(), [])
    vm = definition().model_copy(update={"name": "a"})
    await inventory.put("vms/a", VmRecord(definition=vm, datastore="ds", host="host1"))
    await inventory._load()
    listed = inventory.vms()
    await inventory._load()
    assert inventory.vms() is listed
    del inventory._values["vms/a"]
    await inventory._load()
    assert inventory.vms() == listed


async def test_a_list_is_another_one_when_something_in_it_changed(inventory: Inventory) -> None:
    vm = definition().model_copy(update={"name": "a"})
    await inventory.put("vms/a", VmRecord(definition=vm, datastore="ds", host="host1"))
    before = inventory.vms()
    assert inventory.vms() is before
    await inventory.put("vms/a", VmRecord(definition=vm, datastore="ds", host="host2"))
    assert [r.host for r in before] == ["host1"]
    assert [r.host for r in inventory.vms()] == [inventory.vm("a").host] == ["host2"]


async def test_what_was_seen_of_a_vm_says_nothing_of_another_one_that_has_its_name_now() -> None:
    """A host tells late that its vm was stopped: that was deleted meanwhile, and made anew."""
    registry = MemoryRegistry()
    here, elsewhere = Inventory(registry, FastClock(), []), Inventory(registry, FastClock(), [])
    old = VmRecord(definition=definition(name="a", uuid="old"), datastore="ds", wanted="running")
    new = VmRecord(definition=definition(name="a", uuid="new"), datastore="ds", wanted="running", epoch=1)
    await here.put("vms/a", old)
    here.observe(Observation(vm="a", observed=VmState.STOPPED, host="host1", epoch=4, wanted="stopped"))
    await elsewhere.delete("vms/a")
    await elsewhere.put("vms/a", new)
    await here._load()
    assert here.vm("a") == new
    late = here._pending["a"]
    await here._write_observation(late)
    await elsewhere._load()
    assert (elsewhere.vm("a"), here._pending) == (new, {})
    here._pending["a"] = late
    here.observe(Observation(vm="a", observed=VmState.RUNNING, host="host1", epoch=2))
    assert (here._pending["a"].epoch, here.vm("a").epoch) == (2, 2)


async def test_a_uuid_that_was_changed_by_hand_is_learned_with_the_definition(inventory: Inventory) -> None:
    await inventory.put("vms/a", VmRecord(definition=definition(name="a", uuid="old"), datastore="ds"))
    edited = definition(name="a", uuid="edited")
    inventory.observe(Observation(vm="a", observed=VmState.RUNNING, host="h", epoch=1, definition=edited))
    inventory.observe(Observation(vm="a", observed=VmState.STOPPED, host="h", epoch=2))
    await inventory._write_observation(inventory._pending["a"])
    await inventory._load()
    assert (inventory.vm("a").definition.uuid, inventory.vm("a").observed) == ("edited", VmState.STOPPED)
