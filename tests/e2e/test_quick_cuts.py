"""A quick migration cut at every step, on either side, stop-first and streamed: afterwards the vm runs exactly
once, or lies suspended with its memory whole and can be resumed; only a vm whose own QEMU was killed before its
memory was saved is dead. Nothing is left over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest

from tests.e2e.cluster import Cluster
from tests.e2e.sampling import sampled

pytestmark = pytest.mark.lab

VM = "quickcut"

BEFORE_SAVED = ("source.before-stop", "source.streaming", "source.stopped", "source.saving")
SOURCE_STEPS = (*BEFORE_SAVED, "source.saved", "source.sealed", "source.suspended")
TARGET_STEPS = (
    "target.ordered",
    "target.ready",
    "target.before-claim",
    "target.claimed",
    "target.loading",
    "target.loaded",
    "target.before-cont",
    "target.running",
)
STEPS = (*SOURCE_STEPS, *TARGET_STEPS)


def cuts(kind: int, *steps: str, streamed: Iterable[str] | None = None) -> pytest.MarkDecorator:
    """At these steps, stop-first and streamed; `streamed`: the steps of that where the others are the same.
    `kind`: as for `sampled`."""
    ways = [("stop-first", step) for step in steps if step != "source.streaming"]
    ways += [("streamed", step) for step in (steps if streamed is None else streamed)]
    return pytest.mark.parametrize(("how", "step"), sampled(ways, kind))


@pytest.fixture(scope="module")
def vm(cluster: Cluster) -> Iterator[str]:
    cluster.create(VM)
    yield VM
    cluster.remove(VM)


@pytest.fixture
def move(cluster: Cluster, vm: str) -> tuple[str, str]:
    """(source, target) of a vm that runs."""
    if cluster.wait("the vm to be shown", lambda: cluster.vm(vm)["state"]) != "running":
        cluster.start(vm, "host1")
    source = str(cluster.vm(vm)["host"])
    return source, "host2" if source == "host1" else "host1"


def _hold_at(cluster: Cluster, how: str, step: str, move: tuple[str, str]) -> tuple[str, str]:
    return cluster.hold_at(step, move, lambda: cluster.quick(VM, move[1], is_streamed=how == "streamed"))


def _all_ended(cluster: Cluster) -> bool:
    tasks = cluster.api("GET", "/tasks")
    return all(t["state"] in {"done", "failed", "cancelled"} for t in tasks if t["subject"] == VM)


def _assert_kept(cluster: Cluster) -> str:
    """The vm runs once, at the latest after it was resumed; the host."""
    cluster.wait("the move to end", lambda: _all_ended(cluster), 60.0)

    def state() -> str:
        found = str(cluster.vm(VM)["state"])
        assert found in {"running", "suspended"}, found
        return found

    if cluster.wait("the vm to be settled", state) == "suspended" and cluster.lease(VM)["state"] == "suspended":
        cluster.assert_suspended(VM)
        cluster.do("POST", f"/vms/{VM}/resume")
    return cluster.assert_runs_once(VM)


@cuts(0, *STEPS)
def test_source_agent_killed(cluster: Cluster, move: tuple[str, str], how: str, step: str) -> None:
    _, held = _hold_at(cluster, how, step, move)
    cluster.kill_agent(move[0])
    cluster.release(held, step)
    host = _assert_kept(cluster)
    if step in {"source.suspended", *TARGET_STEPS[2:]}:
        assert host == move[1]


@cuts(1, *STEPS)
def test_target_agent_killed(cluster: Cluster, move: tuple[str, str], how: str, step: str) -> None:
    _, held = _hold_at(cluster, how, step, move)
    cluster.kill_agent(move[1])
    cluster.release(held, step)
    _assert_kept(cluster)


@cuts(2, *SOURCE_STEPS, streamed=("source.streaming", "source.stopped", "source.saved"))
def test_source_qemu_killed(cluster: Cluster, move: tuple[str, str], how: str, step: str) -> None:
    """Dead until its memory is written; from then on it is not needed any more."""
    _, held = _hold_at(cluster, how, step, move)
    cluster.kill_qemu(VM, move[0])
    cluster.release(held, step)
    if step in BEFORE_SAVED:
        cluster.assert_dead_once(VM)
    else:
        assert _assert_kept(cluster) == move[1]


@cuts(3, *TARGET_STEPS[1:6], streamed=("target.ready", "target.before-claim", "target.loading"))
def test_target_qemu_killed(cluster: Cluster, move: tuple[str, str], how: str, step: str) -> None:
    """Up to the claim that says running its memory stays saved."""
    _, held = _hold_at(cluster, how, step, move)
    cluster.kill_qemu(VM, move[1])
    cluster.release(held, step)
    _assert_kept(cluster)


@cuts(
    5,
    *("source.saved", "source.suspended", "target.claimed", "target.loaded"),
    streamed=("source.streaming", "source.suspended", "target.loading"),
)
def test_both_agents_killed(cluster: Cluster, move: tuple[str, str], how: str, step: str) -> None:
    _, held = _hold_at(cluster, how, step, move)
    for host in move:
        cluster.kill_agent(host)
    cluster.release(held, step)
    _assert_kept(cluster)


@cuts(
    6,
    *("source.before-stop", "source.saved", "source.suspended", "target.loading"),
    streamed=("source.before-stop", "source.streaming", "source.suspended"),
)
def test_link_cut(cluster: Cluster, move: tuple[str, str], how: str, step: str) -> None:
    """The move needs no network between the hosts: it ends well with the target's link cut."""
    target = move[1]
    _, held = _hold_at(cluster, how, step, move)
    cluster.zv("lab", "network", target, "cut")
    cluster.release(held, step)
    cluster.wait("the target to hold it", lambda: (cluster.lease(VM)["holder"] or {}).get("host") == target)
    cluster.wait("the target to run it", lambda: list(cluster.qemus(VM)) == [target])
    cluster.zv("lab", "network", target, "heal")
    assert _assert_kept(cluster) == target


@cuts(
    7,
    *("source.before-stop", "source.stopped", "source.saving", "source.sealed"),
    streamed=("source.streaming", "source.stopped", "source.sealed"),
)
def test_cancel(cluster: Cluster, move: tuple[str, str], how: str, step: str) -> None:
    task, held = _hold_at(cluster, how, step, move)
    pid = cluster.qemus(VM)[move[0]]
    cluster.api("POST", f"/tasks/{task}/cancel")
    cluster.release(held, step)
    assert cluster.task_end(task)["state"] == "cancelled"
    assert cluster.assert_runs_once(VM) == move[0]
    assert cluster.qemus(VM)[move[0]] == pid


@cuts(4, "source.stopped", "target.claimed", streamed=("source.streaming", "source.stopped"))
def test_the_datastore_hangs_for_a_while(cluster: Cluster, move: tuple[str, str], how: str, step: str) -> None:
    _hang(cluster, how, step, move, move[0] if step.startswith("source") else move[1])


def test_the_targets_datastore_hangs_while_it_loads_along(cluster: Cluster, move: tuple[str, str]) -> None:
    _hang(cluster, "streamed", "source.streaming", move, move[1])


def _hang(cluster: Cluster, how: str, step: str, move: tuple[str, str], hung: str) -> None:
    _, held = _hold_at(cluster, how, step, move)
    cluster.zv("lab", "storage", hung, "hang")
    cluster.release(held, step)
    cluster.wait(
        "the host to be seen without storage", lambda: not cluster.host(hung)["datastores"][0]["is_usable"]
    )
    cluster.zv("lab", "storage", hung, "heal")
    _assert_kept(cluster)


def test_a_target_without_room_refuses(cluster: Cluster, move: tuple[str, str]) -> None:
    source, target = move
    cluster.hold(target, "target.ordered")
    task = cluster.quick(VM, target, is_streamed=None)
    cluster.wait("the order to be there", lambda: cluster.reached(target, "target.ordered"))
    cluster.zv("lab", "host-set", target, "--memory", "96M")
    try:
        cluster.wait("the target to be full", lambda: cluster.host(target)["memory_total_bytes"] == 96 << 20)
        cluster.release(target, "target.ordered")
        ended = cluster.task_end(task)
        assert ended["state"] == "failed"
        assert "memory" in ended["error"]["cause"]
        assert cluster.assert_runs_once(VM) == source
    finally:
        cluster.zv("lab", "host-set", target, "--memory", "0")
        cluster.wait("the target to be itself", lambda: cluster.host(target)["memory_total_bytes"] != 96 << 20)
