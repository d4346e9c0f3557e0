"""What counts as a recovery: a vm that nobody wanted down, and that runs again."""

from __future__ import annotations

import pytest

from zugvogel.sim.run import Result, run
from zugvogel.sim.scenario import Scenario

WITH = {
    "stop": ({"at_s": 5, "do": "vm_stop", "vm": "vm1"}, {"at_s": 20, "do": "vm_start", "vm": "vm1"}),
    "live": ({"at_s": 5, "do": "vm_migrate", "vm": "vm1"},),
    "quick": ({"at_s": 5, "do": "vm_migrate", "vm": "vm1", "mode": "quick"},),
    "power": ({"at_s": 20, "do": "power_off", "host": "host1"},),
    "isolated": ({"at_s": 20, "do": "network_cut", "host": "host1"},),
    "crash": ({"at_s": 20, "do": "vm_crash", "vm": "vm1"},),
    "moved away, then power": (
        {"at_s": 5, "do": "vm_migrate", "vm": "vm1", "to": "host2", "mode": "quick"},
        {"at_s": 40, "do": "power_off", "host": "host2"},
    ),
}


def _with(what: str) -> Result:
    scenario = {
        "title": what,
        "horizon_s": 90,
        "hosts": [{"name": "host", "count": 3}],
        "vms": [{"name": "vm1", "isolation_response": "suspend"}],
        "timeline": WITH[what],
    }
    return run(Scenario.model_validate(scenario))


@pytest.mark.parametrize("what", ["stop", "live", "quick"])
def test_what_somebody_wished_for_is_no_recovery(what: str) -> None:
    found = _with(what)
    assert len(found.vms["vm1"].running) == 2
    assert found.recoveries == []


@pytest.mark.parametrize(
    ("what", "is_restart"),
    [("power", True), ("isolated", False), ("crash", True), ("moved away, then power", True)],
)
def test_what_failed_and_runs_again_is_one(what: str, is_restart: bool) -> None:
    assert [(r.vm, r.is_restart) for r in _with(what).recoveries] == [("vm1", is_restart)]


def test_times_begin_with_the_scenario() -> None:
    assert _with("power").vms["vm1"].running[0].from_s == 0.0
