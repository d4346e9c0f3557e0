"""Random scenarios: they are what their seed says, find nothing, and can be gone on with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from zugvogel.errors import InvalidInput
from zugvogel.sim import soak as soaking
from zugvogel.sim.chaos import CALM_SHARE, EPISODES, scenario_of
from zugvogel.sim.chaos_worlds import KINDS
from zugvogel.sim.run import run
from zugvogel.sim.scenario import load
from zugvogel.sim.soak import Size, one, seeds_of, soak, write_scenario

SHORT = (
    (Size(hosts=3, vms=5, horizon_s=600.0), range(1, 16)),
    (Size(hosts=3, vms=5, horizon_s=600.0), range(16, 31)),
    (Size(hosts=6, vms=8, horizon_s=600.0), range(31, 40)),
    (Size(hosts=7, vms=8, horizon_s=600.0), range(40, 46)),
)
"""Each ten simulated minutes; from the sixth host on there are secondaries. `make soak` runs a thousand hours at
eight hosts and forty vms."""
TINY = Size(hosts=3, vms=3, horizon_s=180.0)


@pytest.mark.parametrize(("size", "seeds"), SHORT)
def test_short_random_scenarios_violate_nothing(size: Size, seeds: range) -> None:
    assert soak(seeds, size, jobs=2).failed == {}


def test_the_short_ones_meet_all_kinds_of_cluster_and_changes_of_roles() -> None:
    worlds = [scenario_of(seed, size.hosts, size.vms, size.horizon_s) for size, seeds in SHORT for seed in seeds]
    assert {world.title.rpartition(", ")[2] for world in worlds} == {kind for kind, _ in KINDS}
    roles = [
        w for w in worlds if len(w.hosts) > 5 and {a.do for a in w.timeline} & {"maintenance_on", "reconfigure"}
    ]
    assert len(roles) >= 3


def test_a_seed_says_everything() -> None:
    assert scenario_of(7, 8, 40, 3600) == scenario_of(7, 8, 40, 3600)
    assert scenario_of(7, 8, 40, 3600) != scenario_of(8, 8, 40, 3600)
    assert run(scenario_of(3, 3, 3, 180)) == run(scenario_of(3, 3, 3, 180))


def test_a_run_does_not_depend_on_how_texts_are_hashed() -> None:
    program = (
        "import hashlib; from zugvogel.sim.run import run; from zugvogel.sim.chaos import scenario_of;"
        "told = run(scenario_of(5, 4, 6, 300)).model_dump_json(include={'vms', 'recoveries', 'violations'});"
        "print(hashlib.sha256(told.encode()).hexdigest())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1")
    }
    assert len(found) == 1


def test_all_episodes_come_up_and_everything_is_undone_in_the_end() -> None:
    seen: set[str] = set()
    for seed in range(1, 40):
        timeline = scenario_of(seed, 6, 10, 3600).timeline
        seen |= {action.do for action in timeline}
        last = {action.do for action in timeline if action.at_s == 3600 * CALM_SHARE}
        assert {"heal", "power_on", "resume", "storage_heal", "agent_start"} <= last
        assert max(action.at_s for action in timeline) == 3600 * CALM_SHARE
    assert len(EPISODES) >= 15
    assert {"vm_migrate", "vm_crash", "guard_kill", "etcd_kill", "partition", "hang", "maintenance_on"} <= seen
    assert {"reconfigure", "setting", "confirm_dead", "fence_break"} <= seen


def test_words_are_true() -> None:
    """Somebody vouches only for a host that has no power then."""
    words = 0
    for seed in range(1, 60):
        off: set[str] = set()
        for action in scenario_of(seed, 6, 10, 3600).timeline:
            if action.do in {"power_off", "power_on"}:
                off = off | set(action.all_hosts) if action.do == "power_off" else off - set(action.all_hosts)
            elif action.do == "confirm_dead":
                words += 1
                assert set(action.all_hosts) <= off
    assert words > 10


def test_where_nothing_keeps_image_locks_no_host_hangs_that_no_fence_can_cut_off() -> None:
    seen = 0
    for seed in range(1, 200):
        world = scenario_of(seed, 6, 10, 1800)
        done = {action.do for action in world.timeline}
        if not any(store.has_image_locks for store in world.datastores):
            seen += 1
            are_fenced = all(host.has_fence for host in world.hosts) and "fence_break" not in done
            assert are_fenced or "hang" not in done
            assert are_fenced or "guard_kill" not in done or not {"agent_kill", "agent_pause"} & done
    assert seen > 10


def test_datastores_fail_apart() -> None:
    apart = [
        action
        for seed in range(1, 60)
        for action in scenario_of(seed, 6, 10, 3600).timeline
        if action.do in {"storage_hang", "storage_cut"} and action.datastore
    ]
    assert len(apart) > 10


def test_a_soak_goes_on_where_it_was_cut(tmp_path: Path) -> None:
    state = tmp_path / "state.jsonl"
    soak(range(1, 3), TINY, state=state)
    state.write_text(state.read_text() + '{"size": {"hosts": 3')
    done: list[int] = []
    found = soak(range(1, 5), TINY, state=state, told=lambda each: done.append(each.seed))
    assert (found.seeds, done) == (4, [3, 4])
    assert soak(range(1, 3), Size(3, 4, 180.0), state=state, told=lambda each: done.append(each.seed)).seeds == 2
    assert done == [3, 4, 1, 2]


def test_seeds_that_other_code_has_run_are_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = tmp_path / "state.jsonl"
    done: list[int] = []
    soak(range(1, 3), TINY, state=state)
    monkeypatch.setattr(soaking, "code_digest", lambda: "another")
    soak(range(1, 3), TINY, state=state, told=lambda each: done.append(each.seed))
    assert done == [1, 2]


def test_two_processes_find_what_one_finds() -> None:
    assert soak(range(1, 5), TINY, jobs=2).recoveries == soak(range(1, 5), TINY).recoveries


def test_a_seed_is_written_as_a_scenario_that_runs_alike(tmp_path: Path) -> None:
    path = write_scenario(4, TINY, tmp_path)
    assert load(path) == scenario_of(4, TINY.hosts, TINY.vms, TINY.horizon_s)


def test_what_fails_is_told_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zugvogel.sim.invariants.Invariants.finish", _complain)
    found = soak(range(1, 2), TINY, failures=tmp_path)
    assert "by hand" in found.failed[1][0]
    assert [Path(f).name for f in found.files] == ["chaos-1.toml"]
    assert one(1, TINY).violations != []


def _complain(invariants: object) -> None:
    invariants._violated("service", "x", "by hand")  # type: ignore[attr-defined]


@pytest.mark.parametrize(("text", "seeds"), [("7", [7]), ("3-5", [3, 4, 5])])
def test_seeds_are_read(text: str, seeds: list[int]) -> None:
    assert list(seeds_of(text)) == seeds


@pytest.mark.parametrize("text", ["", "a", "5-3", "1-"])
def test_what_are_no_seeds_is_told(text: str) -> None:
    if text == "1-":
        assert list(seeds_of(text)) == [1]
        return
    with pytest.raises(InvalidInput, match="no seeds"):
        seeds_of(text)
