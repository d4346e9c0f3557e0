from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.console.api_fields import HOSTILE, ROUNDS, event, live_progress, live_report, quick_report, task
from tests.console.conftest import Browser
from tests.console.fake_api import FakeApi, filled_mirror
from zugvogel.console.mirror import Fields, Mirror
from zugvogel.console.pages.task import OFTEN_S, WIDTH, axis, chart
from zugvogel.console.samples import Sample
from zugvogel.domain.migration import MigrationProgress
from zugvogel.domain.task import Progress, TaskError, TaskState

Browse = Callable[[Mirror], Browser]
DONE: dict[str, Any] = {"state": TaskState.DONE, "ended_at": "2026-03-01T12:30:47Z", "progress": Progress()}


async def shown(browse: Browse, api: FakeApi, told: Fields, role: str = "viewer", **topics: Any) -> str:
    api.answers[("GET", "/tasks/t1")] = told
    page = await (await browse(filled_mirror(**topics)).log_in(role)).get("/tasks/t1")
    assert page.status_code == 200, page.text
    return page.text


def drawn(page: str) -> Any:
    found = re.search(r'<script type="application/json">(.*?)</script>', page)
    assert found
    return json.loads(found[1])


def facts(page: str) -> dict[str, str]:
    return {
        name: html.unescape(re.sub("<[^>]*>", "", value)).strip()
        for name, value in re.findall(r"<dt>([^<]*)</dt><dd>(.*?)</dd>", page, re.S)
    }


async def test_a_live_migration_that_runs_shows_this_moment(browse: Browse, api: FakeApi) -> None:
    page = await shown(browse, api, task(progress=live_progress()), "operator")
    assert "Live migration of web1" in page
    told = facts(page)
    assert told["left"] == "32 MiB"
    assert told["throughput"] == "954 MiB/s"
    assert told["expected downtime"] == "not known yet"
    assert told["downtime limit"] == "300 ms"
    assert drawn(page)["x"] == [0.0, 1.1, 1.5], "finished rounds, then what was seen"
    assert drawn(page)["remaining_bytes"] == [2**30, ROUNDS[0].remaining_bytes, 2**25]
    assert 'action="/tasks/t1/cancel"' in page
    assert "The phases are drawn when it has ended." in page


async def test_one_that_has_just_begun_has_nothing_to_draw(browse: Browse, api: FakeApi) -> None:
    detail = MigrationProgress(phase="prepare", downtime_limit_ms=300).model_dump(mode="json")
    page = await shown(browse, api, task(progress=Progress(phase="prepare", detail=detail)))
    assert drawn(page) is None
    assert "No figures yet." in page


async def test_figures_of_a_running_one_are_kept_for_who_comes_later(browse: Browse, api: FakeApi) -> None:
    mirror = filled_mirror()
    for elapsed_s in (0.5, 1.0, 1.5):
        told = task(progress=live_progress(elapsed_s))
        mirror.take("tasks", {"whole": False, "changed": {"t1": told}, "gone": []})
    api.answers[("GET", "/tasks/t1")] = task(progress=live_progress(2.0))
    page = await (await browse(mirror).log_in("viewer")).get("/tasks/t1")
    assert drawn(page.text)["x"] == [0.0, 0.5, 1.0, 1.5, 2.0]


async def test_the_report_of_a_live_migration(browse: Browse, api: FakeApi) -> None:
    page = await shown(browse, api, task(report=live_report(), **DONE), "operator")
    told = facts(page)
    assert told["result"] == "moved"
    assert told["downtime"] == "18 ms"
    assert told["took"] == "2.0 s"
    assert told["stream"] == "4 channels, encrypted"
    assert told["request to first byte"] == "300 ms"
    for said in ("network verified", "network not verified", "network lost", "no RARP came"):
        assert said in page
    assert "RARP came out of the switch" in page
    assert "cancel" not in page.split('id="content"')[1].lower().replace("cancelled", "")
    assert len(drawn(page)["x"]) == 3
    assert re.findall(r'axis-row( blackout)?"><span>([\w-]+)</span>', page) == [
        ("", "prepare"),
        ("", "precopy"),
        (" blackout", "switchover"),
        ("", "verify"),
    ]


async def test_the_report_of_a_quick_migration(browse: Browse, api: FakeApi) -> None:
    page = await shown(browse, api, task(report=quick_report(), **DONE))
    assert "Quick migration of web1" in page
    told = facts(page)
    assert told["outage"] == "2.0 s"
    assert told["outage foretold"] == "1.8 s"
    assert told["saved as"] == "mapped"
    assert "written at once" in page
    blackout = re.findall(r'axis-row blackout"><span>([\w-]+)</span>', page)
    assert blackout == ["suspend", "durable", "hand-over", "load"]


async def test_a_suspend_has_phases_and_no_outage_to_mark(browse: Browse, api: FakeApi) -> None:
    report = quick_report(result="suspended", target="", outage_ms=0.0)
    page = await shown(browse, api, task(kind="vm.suspend", report=report, **DONE))
    assert "vm.suspend web1" in page
    assert "axis-row blackout" not in page


@pytest.mark.parametrize("result", ["stayed", "died"])
async def test_one_that_did_not_move_says_why(browse: Browse, api: FakeApi, result: str) -> None:
    error = TaskError(code="procedure-failed", cause="the link broke", next_step="try again")
    failed = {**DONE, "state": TaskState.FAILED, "error": error}
    report = live_report(result=result, why="host2 fell silent", phases=(), rounds=(), network=())
    page = await shown(browse, api, task(report=report, **failed))
    for said in ("the link broke", "try again", "host2 fell silent", "failed"):
        assert said in page
    assert facts(page)["result"] == ("stayed where it was" if result == "stayed" else "ended")
    assert "axis-row blackout" not in page


async def test_other_tasks_show_their_figures_by_name(browse: Browse, api: FakeApi) -> None:
    report = {"moved": ["web1", "web2"], "left": {"web3": "no room"}, "took_s": 1.23456789, "none": None}
    page = await shown(browse, api, task(kind="host.maintenance", subject="host1", report=report, **DONE))
    told = facts(page)
    assert told["moved"] == "web1, web2"
    assert told["left.web3"] == "no room"
    assert told["took_s"] == "1.23457"
    assert "none" not in told
    assert "data-chart" not in page


async def test_its_events_and_no_others_stand_below(browse: Browse, api: FakeApi) -> None:
    events = {"1": event(1, task="t1", message="it began"), "2": event(2, task="t2", message="another")}
    page = await shown(browse, api, task(), events=events)
    assert "it began" in page
    assert "another" not in page


@pytest.mark.parametrize("role", ["viewer", "operator"])
async def test_only_operators_are_offered_to_cancel(browse: Browse, api: FakeApi, role: str) -> None:
    assert ("/tasks/t1/cancel" in await shown(browse, api, task(), role)) is (role == "operator")
    assert "/tasks/t1/cancel" not in await shown(browse, api, task(is_cancellable=False), role)


async def test_hostile_texts_stay_texts(browse: Browse, api: FakeApi) -> None:
    report = live_report(why=HOSTILE, source=HOSTILE)
    error = TaskError(code="x", cause=HOSTILE, next_step=HOSTILE)
    told = task(subject=HOSTILE, report=report, error=error, **{**DONE, "state": TaskState.FAILED})
    page = await shown(browse, api, told, events={"1": event(1, task="t1", message=HOSTILE)})
    assert "<img src=x" not in page
    assert "</script><b>" not in page
    assert page.count("onerror") == page.count("&gt;&lt;img src=x onerror")


@pytest.mark.parametrize(
    "told",
    [
        task(progress=live_progress()),
        task(report=live_report(), **DONE),
        task(report=quick_report(), **DONE),
        task(kind="vm.suspend", report=quick_report(result="suspended", outage_ms=0.0), **DONE),
        task(kind="vm.create", state=TaskState.PENDING, started_at="", progress=Progress()),
        task(kind="host.join", state=TaskState.CANCELLED, report={"a": []}, progress=Progress()),
        task(kind="vm.migrate", state=TaskState.FAILED, report=None, progress=Progress()),
    ],
)
async def test_every_kind_is_there_in_german(browse: Browse, api: FakeApi, told: Fields) -> None:
    api.answers[("GET", "/tasks/t1")] = told
    browser = await browse(filled_mirror()).log_in("operator")
    await browser.post("/preferences", language="de")
    page = await browser.get("/tasks/t1")
    assert page.status_code == 200
    assert '<html lang="de"' in page.text


async def test_a_finished_task_is_asked_for_once_and_shown_calmly(api: FakeApi) -> None:
    from starlette.datastructures import QueryParams

    from zugvogel.console.i18n import language
    from zugvogel.console.page import Look
    from zugvogel.console.pages.task import view
    from zugvogel.console.sessions import Person
    from zugvogel.domain.cluster import Access

    person = Person("viewer", Access.VIEWER, "viewer-token")
    look = Look(filled_mirror(), person, api.of("viewer-token"), language("en"), {"id": "t1"}, QueryParams())
    api.answers[("GET", "/tasks/t1")] = task()
    assert (await view(look))["every_s"] == OFTEN_S
    api.answers[("GET", "/tasks/t1")] = task(report=live_report(), **DONE)
    for _ in range(3):
        assert (await view(look))["every_s"] is None
    assert len(api.asked) == 2


def test_bars_stay_on_the_axis_and_can_be_seen() -> None:
    for report, mode in ((live_report(), "live"), (quick_report(), "quick"), (live_report(total_s=0.0), "live")):
        drawn_axis = axis(report, mode)
        for bar in drawn_axis["bars"]:
            assert 0 <= bar["x"] <= WIDTH
            assert bar["width"] >= 3
    marks = axis(live_report(), "live")["marks"]
    assert [(mark["name"], mark["x"]) for mark in marks] == [("rarp_at_s", 725.0), ("answered_at_s", 750.0)]


def test_a_chart_needs_two_points() -> None:
    sample = Sample(1.0, 5.0, None, None)
    assert chart([]) is None
    assert chart([sample]) is None
    assert chart([sample, sample._replace(at_s=2.00049)]) == {
        "x": [1.0, 2.0],
        "remaining_bytes": [5.0, 5.0],
        "throughput_bps": [None, None],
        "dirty_rate_bps": [None, None],
    }
