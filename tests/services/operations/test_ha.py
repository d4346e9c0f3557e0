from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.core.facts import definition
from tests.services.operations.cluster_of_two import ClusterOfTwo, Node
from zugvogel.core import lease_rules
from zugvogel.domain.cluster import Access, Cluster
from zugvogel.domain.guard import GuardReport
from zugvogel.domain.ha import Explanation
from zugvogel.domain.host import HostStatus, Role, Verdict, VmReport
from zugvogel.domain.lease import Holder
from zugvogel.domain.user import Caller
from zugvogel.domain.vm import VmState
from zugvogel.errors import InvalidInput, NotFound, Refused, Unreachable
from zugvogel.ports.caller import caller
from zugvogel.services.membership import Membership
from zugvogel.services.operations.cluster import ClusterOperations
from zugvogel.services.operations.ha import HaKnowledge, HaOperations
from zugvogel.services.operations.whole import Operations


@dataclass
class Known:
    """What one host's services know: all that `HaKnowledge` asks for."""

    host: str
    judge: str | None = "host1"
    owed: dict[str, str] = field(default_factory=dict)
    ticks_at_look: int = 1
    looks: int = 0
    trouble: str = ""
    heard: tuple[str, ...] = ()

    def judge_of(self, datastore: str) -> str | None:
        return self.judge

    def waiting(self) -> tuple[str, ...]:
        return tuple(f"{vm}: {why}" for vm, why in self.owed.items())

    def why_waiting(self, vm: str) -> str:
        return self.owed.get(vm, "")

    def report(self) -> GuardReport | None:
        return GuardReport(ticked_at=1.0) if self.looks else None

    def is_ticking(self) -> bool:
        self.looks += 1
        return self.looks >= self.ticks_at_look

    def is_armed(self) -> bool:
        return True

    def names(self) -> tuple[str, ...]:
        return ("nfs1",)

    def usable(self, datastore: str) -> tuple[bool, str]:
        return not self.trouble, self.trouble

    def own_age_s(self, datastore: str) -> float | None:
        return None if self.trouble else 0.5

    def latency_s(self, datastore: str) -> float:
        return 0.02

    def hears(self) -> tuple[str, ...]:
        return self.heard

    async def explain_host(self, name: str) -> Explanation:
        return Explanation(subject=name, kind="host", judge=self.host, judgement="live")

    def knowledge(self) -> HaKnowledge:
        return HaKnowledge(
            judges=self,
            restarts=self,
            guard=self,
            beats=self,
            hearing=self,
            explain_host=self.explain_host,
            has_fence=lambda h: h == "host2",
        )


class World:
    def __init__(self, path: Path) -> None:
        self.cluster = ClusterOfTwo(path)
        self.known = {name: Known(name) for name in self.cluster.nodes}
        self.ha = {
            name: HaOperations(node.world, self.known[name].knowledge())
            for name, node in self.cluster.nodes.items()
        }

    async def begin(self) -> None:
        await self.cluster.begin()
        self.cluster.gone.add("host3")
        for node in self.nodes:
            await node.inventory.put("cluster", Cluster(id="c", name="birds", created_at=""))

    @property
    def nodes(self) -> list[Node]:
        return list(self.cluster.nodes.values())

    async def make_secondary(self, name: str) -> None:
        for node in self.nodes:
            host = node.inventory.host(name).model_copy(update={"role": Role.SECONDARY})
            await node.inventory.put(f"hosts/{name}", host)
        seen = self.cluster.statuses

        def statuses() -> list[object]:
            return [s.model_copy(update={"host": self.nodes[0].inventory.host(s.host.name)}) for s in seen()]

        self.cluster.statuses = statuses  # type: ignore[assignment, method-assign]

    async def events(self, host: str) -> list[str]:
        return [e.kind for e in await self.cluster.nodes[host].events.list()]


@pytest.fixture
async def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    await made.begin()
    return made


async def test_enabling_waits_for_the_guards_and_tells_what_is_missing(world: World) -> None:
    world.cluster.verdicts["host3"] = Verdict.FAILED
    world.known["host2"].ticks_at_look = 3
    status = await world.ha["host1"].enable_ha()
    assert status.enabled
    present = {(p.name, p.subject): p.is_present for p in status.protections}
    assert present == {
        ("guard", "host1"): True,
        ("watchdog", "host1"): False,
        ("power fence", "host1"): False,
        ("guard", "host2"): True,
        ("watchdog", "host2"): False,
        ("power fence", "host2"): True,
        ("guard", "host3"): False,
        ("watchdog", "host3"): False,
        ("power fence", "host3"): False,
        ("image lock", "nfs1"): True,
    }
    assert "host3 is failed" in next(p.why for p in status.protections if p.subject == "host3")
    await world.ha["host1"].enable_ha()
    assert await world.events("host1") == ["ha.enabled"]


async def test_a_guard_that_never_ticks_does_not_hold_enabling_up(world: World) -> None:
    world.cluster.verdicts["host3"] = Verdict.FAILED
    world.known["host2"].ticks_at_look = 10**6
    status = await world.ha["host1"].enable_ha()
    assert [p.subject for p in status.protections if p.name == "guard" and not p.is_present] == ["host2", "host3"]


async def test_disabling_is_told_once(world: World) -> None:
    world.cluster.verdicts["host3"] = Verdict.FAILED
    one = world.ha["host1"]
    assert not (await one.disable_ha()).enabled
    assert await world.events("host1") == []
    await one.enable_ha()
    status = await one.disable_ha()
    assert (status.enabled, await world.events("host1")) == (False, ["ha.enabled", "ha.disabled"])
    assert "disabled" in status.admission.why


async def test_without_a_datastore_it_is_refused(world: World) -> None:
    await world.nodes[0].inventory.delete("datastores/nfs1")
    with pytest.raises(Refused, match="no datastore") as error:
        await world.ha["host1"].enable_ha()
    assert "zv datastore add" in error.value.next_step
    assert not world.nodes[0].inventory.setting("das.enabled")


async def test_the_status_says_who_judges_and_what_is_owed(world: World) -> None:
    world.known["host1"].judge = "host2"
    world.known["host2"].owed = {"web1": "waits for room"}
    status = await world.ha["host1"].ha_status()
    assert (status.active_primary, status.active_primaries) == ("host2", {"nfs1": "host2"})
    assert status.restarting == ("web1: waits for room",)
    world.cluster.gone.add("host2")
    (told,) = (await world.ha["host1"].ha_status()).restarting
    assert "host2" in told
    assert "not known" in told


async def test_a_secondary_asks_a_primary(world: World) -> None:
    await world.make_secondary("host2")
    world.known["host2"].judge = None
    status = await world.ha["host2"].ha_status()
    assert status.active_primary == "host1"
    with pytest.raises(Refused, match="judges nobody"):
        await world.nodes[1].world.handlers["ha.status"]({})
    world.cluster.gone.add("host1")
    with pytest.raises(Unreachable, match="no primary answers: host1"):
        await world.ha["host2"].ha_status()


async def test_a_host_that_is_cut_off_tells_what_it_sees(world: World) -> None:
    world.cluster.verdicts |= {"host1": Verdict.ISOLATED, "host2": Verdict.FAILED, "host3": Verdict.FAILED}
    assert (await world.ha["host1"].ha_status()).active_primary == "host1"


async def test_the_setting_is_another_way_to_the_same(world: World) -> None:
    class Settable(Operations):
        def __init__(self) -> None:
            ClusterOperations.__init__(self, world.nodes[0].world, cast(Membership, SimpleNamespace()))
            HaOperations.__init__(self, world.nodes[0].world, world.known["host1"].knowledge())

    world.cluster.verdicts["host3"] = Verdict.FAILED
    operations = Settable()
    assert (await operations.set_setting("das.enabled", True)).value is True
    assert world.nodes[0].inventory.setting("das.enabled") is True
    await operations.set_setting("das.enabled", False)
    await operations.set_setting("das.failoverlevel", 2)
    assert await world.events("host1") == ["ha.enabled", "ha.disabled", "setting.changed"]
    with pytest.raises(InvalidInput, match="on or off"):
        await operations.set_setting("das.enabled", "on")


async def test_events_tell_who_turned_it_on_and_who_off(world: World) -> None:
    held = caller.set(Caller(access=Access.ADMIN, user="ada", kind="user"))
    try:
        await world.ha["host1"].enable_ha()
    finally:
        caller.reset(held)
    await world.ha["host1"].disable_ha()
    told = await world.nodes[0].events.list(kind="ha")
    assert [(e.kind, e.by) for e in told] == [("ha.enabled", "user ada"), ("ha.disabled", "")]


async def test_a_plan_is_made_of_what_is_known_here(world: World) -> None:
    plan = await world.ha["host2"].ha_plan(["host3", "host3"])
    assert (plan.hosts, plan.placed, plan.is_complete) == (("host3",), (), True)
    with pytest.raises(NotFound, match="host9"):
        await world.ha["host2"].ha_plan(["host9"])


@pytest.mark.parametrize(("is_enabled", "kind"), [(True, "NFS v4"), (False, "NFS v4"), (True, "NFS v3")])
async def test_a_plan_is_complete_only_where_all_comes_by_itself(
    world: World, is_enabled: bool, kind: str
) -> None:
    """host2 has a fence device, host1 has none."""
    for name in ("web1", "web2"):
        await world.cluster.add(definition(name=name, nics=()), wanted="running")
    seen = world.cluster.statuses
    vms = {"host1": "web1", "host2": "web2"}

    def statuses() -> list[HostStatus]:
        return [running(s, vms[s.host.name]) if s.host.name in vms else s for s in seen()]

    world.cluster.statuses = statuses  # type: ignore[method-assign]
    node = world.nodes[0]
    await node.inventory.set_setting("das.enabled", is_enabled)
    store = node.inventory.datastore("nfs1")
    await node.inventory.put("datastores/nfs1", store.model_copy(update={"kind": kind}))
    one, two = [await world.ha["host1"].ha_plan([host]) for host in vms]
    assert one.is_complete is (is_enabled and kind == "NFS v4")
    assert two.is_complete is is_enabled
    assert bool(one.placed[0].waits_for) is not one.is_complete


def running(status: HostStatus, vm: str) -> HostStatus:
    assert status.report is not None
    seen = VmReport(name=vm, state=VmState.RUNNING, epoch=1, memory_bytes=1 << 30, cpus=1)
    return status.model_copy(update={"report": status.report.model_copy(update={"vms": (seen,)})})


async def test_hosts_come_before_vms_unless_said_otherwise(world: World) -> None:
    await world.cluster.add(definition(name="host2", nics=()))
    assert (await world.ha["host1"].explain("host2")).kind == "host"
    assert (await world.ha["host1"].explain("host2", "vm")).kind == "vm"
    with pytest.raises(NotFound, match="no host and no vm web9"):
        await world.ha["host1"].explain("web9")
    with pytest.raises(NotFound):
        await world.ha["host1"].explain("host1", "vm")


async def test_a_vm_is_explained_by_its_judge_from_its_lease(world: World) -> None:
    await world.cluster.add(definition(nics=()), wanted="running")
    dead = Holder(host="host3", boot_id="b")
    claim = lease_rules.start(None, "web1", dead, has_qemu=False, why="started")
    await world.nodes[0].store.leases.claim(claim)
    world.cluster.verdicts["host3"] = Verdict.FAILED
    world.known["host1"].judge = "host2"
    world.known["host2"].owed = {"web1": "waits for room"}
    found = await world.ha["host1"].explain("web1")
    assert (found.judge, found.kind, "host3" in found.judgement) == ("host2", "vm", True)
    assert found.follows.endswith("now: waits for room")
    assert any("failed" in line for line in found.evidence)


@pytest.mark.parametrize("verdict", [Verdict.LIVE, Verdict.FAILED])
async def test_the_host_that_runs_a_vm_is_asked_whether_its_guest_answers(world: World, verdict: Verdict) -> None:
    await world.cluster.add(definition(nics=()), wanted="running")
    asked: list[dict[str, Any]] = []

    async def answer(payload: dict[str, Any]) -> dict[str, Any]:
        asked.append(payload)
        return {"told": "the guest of web1 answers"}

    world.nodes[1].world.handlers["ha.answer"] = answer
    claim = lease_rules.start(None, "web1", Holder(host="host2", boot_id="b"), has_qemu=False, why="started")
    await world.nodes[0].store.leases.claim(claim)
    world.cluster.verdicts["host2"] = verdict
    found = await world.ha["host1"].explain("web1")
    is_live = verdict is Verdict.LIVE
    assert ("the guest of web1 answers" in found.evidence) is is_live
    assert asked == ([{"vm": "web1"}] if is_live else [])
    world.cluster.gone.add("host2")
    assert "the guest of web1 answers" not in (await world.ha["host1"].explain("web1")).evidence
