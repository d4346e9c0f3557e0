from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.console.api_fields import HOSTILE, event, ha, host, plan, task, unheard
from tests.console.conftest import Browser
from tests.console.fake_api import FakeApi, filled_mirror
from tests.console.pages.vm_fields import vm
from zugvogel.console.mirror import Mirror
from zugvogel.console.pages.cluster import capacity
from zugvogel.domain.task import TaskState
from zugvogel.errors import Unreachable

Browse = Callable[[Mirror], Browser]

HOSTS = {
    each["name"]: each
    for each in (
        host("host1", is_active_primary=True),
        host("host2", role="secondary", verdict="isolated", why="no heartbeat, beats arrive", load1=20.0),
        host("host10", verdict="failed", why="no heartbeat and no beat for 16 s"),
        unheard("host3"),
    )
}


def mirror(**topics: Any) -> Mirror:
    vms = {each["name"]: each for each in (vm("web1"), vm("web2", state="frozen"), vm("db1", state="stopped"))}
    return filled_mirror(**{"hosts": HOSTS, "vms": vms, "ha": {"ha": ha()}, **topics})


async def shown(browse: Browse, query: str = "", language: str = "en", role: str = "viewer", **topics: Any) -> str:
    browser = await browse(mirror(**topics)).log_in(role)
    await browser.post("/preferences", language=language)
    page = await browser.get(f"/{query}")
    assert page.status_code == 200
    return page.text


def hosts_of(page: str) -> list[str]:
    return re.findall(r'<tr id="host-([^"]+)"', page)


@pytest.mark.parametrize("language", ["en", "de"])
async def test_hosts_are_shown_with_verdict_and_reason(browse: Browse, language: str) -> None:
    page = await shown(browse, language=language)
    assert hosts_of(page) == ["host1", "host2", "host3", "host10"]
    for why in ("no heartbeat, beats arrive", "no heartbeat and no beat for 16 s"):
        assert why in page
    assert 'href="/hosts/host10"' in page
    assert "one failure fits" in page


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("?verdict=failed", ["host10"]),
        ("?q=secondary", ["host2"]),
        ("?sort=verdict", ["host10", "host2", "host1", "host3"]),
        ("?sort=heartbeat", ["host1", "host2", "host10", "host3"]),
        ("?verdict=nonsense", []),
    ],
)
async def test_the_list_is_filtered_and_sorted(browse: Browse, query: str, found: list[str]) -> None:
    assert hosts_of(await shown(browse, query)) == found


async def test_running_and_frozen_vms_count_on_their_host(browse: Browse) -> None:
    page = await shown(browse)
    row = page.split('<tr id="host-host1"')[1].split("</tr>")[0]
    assert re.search(r'data-label="VMs"><a [^>]*>2</a>', row)


async def test_what_happens_now_is_there(browse: Browse) -> None:
    tasks = {"1": task("1"), "2": task("2", state=TaskState.DONE, subject="done1")}
    events = {each["id"]: each for each in (event(number, message=f"event {number}.") for number in range(1, 13))}
    page = await shown(browse, tasks=tasks, events=events)
    assert 'href="/tasks/1"' in page
    assert "done1" not in page
    assert re.findall(r"event (\d+)\.", page) == [str(number) for number in range(12, 4, -1)]


async def test_what_if_a_host_fails(browse: Browse, api: FakeApi) -> None:
    api.answers[("GET", "/ha/plan")] = plan()
    page = await shown(browse, "?fail=host1")
    for said in ("If host1 fails now", "it has the most room", "no host has so much memory", "nowhere"):
        assert said in page
    [params] = [params for _, _, path, params, _ in api.asked if path == "/ha/plan"]
    assert params == {"fail": "host1"}


async def test_an_unknown_host_cannot_fail(browse: Browse, api: FakeApi) -> None:
    assert "fails now" not in await shown(browse, "?fail=host9%26x=1")
    assert all(path != "/ha/plan" for _, _, path, _, _ in api.asked)


async def test_a_plan_that_cannot_be_made_says_why(browse: Browse, api: FakeApi) -> None:
    api.answers[("GET", "/ha/plan")] = Unreachable("nobody judges now")
    assert "nobody judges now" in await shown(browse, "?fail=host1")
    api.answers[("GET", "/ha/plan")] = plan(placed=[], is_complete=True)
    assert "No VM runs there." in await shown(browse, "?fail=host1")


async def test_a_plan_marks_what_would_not_come_by_itself(browse: Browse, api: FakeApi) -> None:
    api.answers[("GET", "/ha/plan")] = plan()
    assert "not by itself" not in await shown(browse, "?fail=host1")
    waits = {**plan()["placed"][0], "waits_for": "high availability is disabled"}
    api.answers[("GET", "/ha/plan")] = plan(placed=[waits])
    assert "not by itself" in await shown(browse, "?fail=host1")


@pytest.mark.parametrize("language", ["en", "de"])
async def test_a_cluster_of_which_nothing_is_known_yet_has_a_page(browse: Browse, language: str) -> None:
    page = await shown(browse, language=language, hosts={}, vms={}, ha={})
    assert hosts_of(page) == []


async def test_hostile_texts_stay_texts(browse: Browse, api: FakeApi) -> None:
    api.answers[("GET", "/ha/plan")] = plan(placed=[{**plan()["placed"][0], "why": HOSTILE}])
    page = await shown(
        browse,
        "?fail=host1",
        hosts={"host1": host("host1", why=HOSTILE, failure_domain=HOSTILE)},
        ha={"ha": ha(restarting=[HOSTILE])},
        events={"1": event(1, message=HOSTILE)},
        tasks={"1": task("1", subject=HOSTILE)},
    )
    assert "<img src=x" not in page
    assert "</script><b>" not in page


def test_capacity_fills_the_bar() -> None:
    parts = capacity(ha())
    assert [part["name"] for part in parts] == ["used", "reserved", "free"]
    assert [(part["start"], part["width"]) for part in parts] == [(0.0, 25.0), (25.0, 50.0), (75.0, 25.0)]
    assert capacity(None) == []
    assert [part["width"] for part in capacity(ha(admission={"used": 0, "reserved": 0, "free": 0}))] == [0, 0, 0]
