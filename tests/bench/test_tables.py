"""Tables and JSON of a run."""

from __future__ import annotations

import json

import pytest

from bench.results import Results
from bench.sample import Sample
from bench.scenarios import LIBVIRT, RAW, SCENARIOS, ZUGVOGEL_TLS
from bench.tables import MOVES, markdown, move_rows
from bench.targets import judge

SHAPED = next(s for s in SCENARIOS if s.name == "idle-1g")


@pytest.fixture
def results() -> Results:
    found = Results(machine={"cores": 2})
    zugvogel = Sample(
        wall_s=3.0, total_s=2.5, sent_bytes=250_000_000, goodput_bps=125e6, nonzero_bytes=250_000_000
    )
    found.add(SHAPED.name, ZUGVOGEL_TLS, zugvogel)
    found.add(SHAPED.name, RAW, Sample(wall_s=2.1, total_s=2.0))
    found.add(SHAPED.name, LIBVIRT, Sample(error="no daemon"))
    return found


def test_ratios_are_to_the_raw_script_and_to_the_link(results: Results) -> None:
    ratios = results.ratios(SHAPED, ZUGVOGEL_TLS)
    assert ratios.raw == pytest.approx(1.25)
    assert ratios.goodput == pytest.approx(1.25)
    assert ratios.wire == pytest.approx(1.25)
    assert ratios.virsh is None


def test_a_failed_row_tells_its_cause_and_keeps_the_tables_width(results: Results) -> None:
    rows = list(move_rows(SHAPED, results))
    assert {len(row) for row in rows} == {len(MOVES)}
    assert rows[-1][1] == "no daemon"


def test_markdown_has_every_row_and_target(results: Results) -> None:
    checks = judge(results.samples, None)
    text = markdown(results, checks)
    assert text.count("| Zugvogel (TLS) |") == 1 + sum(c.row == "Zugvogel (TLS)" for c in checks)
    assert "not measured" in text


def test_json_keeps_samples_medians_and_verdicts(results: Results) -> None:
    kept = json.loads(json.dumps(results.as_dict(judge(results.samples, None), "2026-01-01T00:00:00+00:00", 1.0)))
    assert kept["medians"][SHAPED.name][ZUGVOGEL_TLS]["ratios"]["raw"] == pytest.approx(1.25)
    assert len(kept["samples"][SHAPED.name][RAW]) == 1
    assert {"value", "limit", "is_met"} <= set(kept["targets"][0])
