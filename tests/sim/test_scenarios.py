"""Every scenario that comes with Zugvogel ends as it expects, and breaks no invariant."""

from __future__ import annotations

import re

import pytest

from zugvogel.sim.run import run
from zugvogel.sim.scenario import load, shipped

SCENARIOS = shipped()


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(name: str) -> None:
    result = run(load(SCENARIOS[name]))
    assert [f"{v.rule} at {v.at_s:g} s: {v.what}" for v in result.violations] == []


def test_there_are_many_and_their_names_are_their_titles() -> None:
    assert len(SCENARIOS) >= 40
    for name, path in SCENARIOS.items():
        assert name == re.sub(r"[^a-z0-9]+", "-", load(path).title.lower()).strip("-")
