from __future__ import annotations

import io
import re
from itertools import pairwise

import pytest
from rich.console import Console, RenderableType

from tests.api.fake_backend import REPORT, running
from zugvogel.cli.migration_view import live_view, phases_picture, report_view, rounds_picture
from zugvogel.cli.watch import bar, view
from zugvogel.domain.migration import MigrationProgress, NetworkCheck, Phase
from zugvogel.domain.task import Progress


def drawn(what: RenderableType, width: int = 110) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(what)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_live_view_tells_the_figures_of_this_moment() -> None:
    detail = MigrationProgress(
        phase="precopy",
        rounds=REPORT.rounds,
        transferred_bytes=200 * 2**20,
        remaining_bytes=50 * 2**20,
        total_bytes=200 * 2**20,
        throughput_bps=2.0**27,
        dirty_rate_bps=2.0**22,
        expected_downtime_ms=44,
        downtime_limit_ms=60,
        elapsed_s=1.25,
    )
    task = running(Progress(phase="precopy", message="round 3", detail=detail.model_dump(mode="json")))
    shown = drawn(live_view(task.model_dump(mode="json")))
    for expected in (
        "web1",
        "precopy",
        "200 MiB sent",
        "50.0 MiB left",
        "128 MiB/s",
        "44 ms",
        "limit 60 ms",
        "1.25 s",
    ):
        assert expected in shown
    assert max(len(line) for line in shown.splitlines()) <= 110


def test_a_progress_without_figures_can_be_shown() -> None:
    task = running(Progress(phase="checks", detail={"phase": "checks"}))
    assert "not known yet" in drawn(live_view(task.model_dump(mode="json")))
    plain = running(Progress(phase="copy", message="copying", fraction=0.5)).model_dump(mode="json")
    assert "50%" in drawn(view(plain | {"kind": "vm.create"}))


def test_report_marks_the_blackout_and_the_network() -> None:
    check = NetworkCheck(
        mac="52:54:00:00:00:01",
        rarp_seen=True,
        answers_after=("198.51.100.10",),
        is_verified=True,
        why="RARP seen, 198.51.100.10 answers",
    )
    shown = drawn(report_view(REPORT.model_copy(update={"network": (check,)}).model_dump(mode="json")))
    blackout = next(line for line in shown.splitlines() if "blackout" in line)
    assert blackout.count("█") == 1
    assert blackout.endswith(" 31 ms")
    assert "RARP seen, 198.51.100.10 answers" in shown


def test_phases_share_one_axis() -> None:
    phases = [p.model_dump() for p in REPORT.phases]
    lines = [drawn(line).rstrip("\n") for line in phases_picture(phases, 2.5, 110)]
    assert all(sum(line.count(sign) for sign in "·█▆") == 60 for line in lines[:-1])
    assert phases_picture([], 0.0, 80) == []


def test_many_rounds_leave_out_the_middle() -> None:
    rounds = [REPORT.rounds[0].model_copy(update={"number": n}).model_dump() for n in range(40)]
    shown = [drawn(line) for line in rounds_picture(rounds, 110)]
    assert len(shown) == 13
    assert "28 more rounds" in shown[6]


def test_bar_never_leaves_its_width() -> None:
    assert bar(-1, 4) == "····"
    assert bar(2, 4) == "████"
    assert len(bar(0.33, 10)) == 10


NUMBER_AT_THE_END = re.compile(r"\d$")
UNIT_AT_THE_START = re.compile(r"\s*(ms|s|min|B|[KMGT]iB)(/s)?\b")


@pytest.mark.parametrize("width", [60, 80, 110])
def test_nothing_leaves_the_terminal_and_no_number_loses_its_unit(width: int) -> None:
    slow = Phase(name="verify network and everything else", start_s=0.1, duration_s=0.635)
    long = REPORT.model_copy(
        update={
            "phases": (*REPORT.phases, slow, Phase(name="clean up", start_s=1, duration_s=185)),
            "vm": "a-vm-with-quite-a-long-name",
            "why": "the guest dirties 120 MB/s, the link takes 90 MB/s at most",
        }
    )  # fmt: skip
    detail = MigrationProgress(phase="precopy", rounds=REPORT.rounds, total_bytes=2**31, remaining_bytes=2**30)
    message = "round 2: 1234 MB sent, 5678 MB left, and so on and on"
    task = running(Progress(phase="precopy", message=message, detail=detail.model_dump(mode="json")))
    for what in (report_view(long.model_dump(mode="json")), live_view(task.model_dump(mode="json"))):
        lines = drawn(what, width).splitlines()
        assert [line for line in lines if len(line) > width] == []
        for line, following in pairwise(lines):
            assert not (NUMBER_AT_THE_END.search(line.rstrip()) and UNIT_AT_THE_START.match(following))
        told = "\n".join(lines)
        assert "…\n" not in told
    shown = drawn(report_view(long.model_dump(mode="json")), width)
    for figure in ("635 ms", "31 ms", "3 min 05 s"):
        assert figure in shown


def test_a_single_round_is_no_rounds() -> None:
    report = REPORT.model_copy(update={"rounds": REPORT.rounds[:1], "channels": 1}).model_dump(mode="json")
    assert "sent in 1 round (1 channel, not encrypted)" in drawn(report_view(report), 120)
