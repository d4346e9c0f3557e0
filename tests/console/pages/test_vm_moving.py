from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.console.conftest import Browser
from tests.console.fake_api import FakeApi
from tests.console.pages.vm_fields import mirror_of, vm
from zugvogel.console.mirror import Mirror
from zugvogel.console.pages.vm_moving import asked
from zugvogel.domain.requests import MigrateVm
from zugvogel.errors import InvalidInput, Refused

Browse = Callable[[Mirror], Browser]

PATH = ("POST", "/vms/web1/migration-plan")
PLAN: dict[str, Any] = {
    "vm": "web1",
    "mode": "live",
    "source": "host1",
    "target": "host2",
    "reason": "it has the most free memory",
    "findings": [
        {"code": "L2", "level": "ok", "cause": "both hosts reach shared", "next_step": ""},
        {"code": "L7", "level": "warning", "cause": "the link is slow", "next_step": "use another"},
    ],
    "candidates": [{"host": "host2", "is_fit": True, "score": 0.75, "why": "8 GiB stay free"}],
    "forecast": None,
}
REFUSED = {"code": "L4", "level": "refused", "cause": "host2 lacks avx2", "next_step": "choose host3"}
FORECAST = {
    "size_bytes": 2**30,
    "free_bytes": 2**40,
    "write_bps": 2.0**27,
    "outage_s": 9.5,
    "dirty_bps": None,
    "is_streamed": False,
    "how": "stopped first: the guest changes its memory faster than it is written",
}


@pytest.mark.parametrize(
    ("form", "wanted"),
    [
        ({}, {"mode": "live", "target": None}),
        (
            {"mode": "live", "target": "host2", "tls": "no", "max_downtime_ms": "50"},
            {"mode": "live", "target": "host2"},
        ),
        ({"mode": "quick"}, {"mode": "quick", "save": {"is_streamed": None, "is_compressed": False}}),
        ({"mode": "streamed"}, {"mode": "quick", "save": {"is_streamed": True, "is_compressed": False}}),
        (
            {"mode": "stop-first", "is_compressed": "1", "bandwidth_mib": "5"},
            {"mode": "quick", "save": {"is_streamed": False, "is_compressed": True}},
        ),
    ],
)
def test_a_form_is_what_the_api_takes(form: dict[str, str], wanted: dict[str, Any]) -> None:
    body = asked(form)
    assert wanted.items() <= body.items()
    MigrateVm.model_validate(body)


def test_options_are_those_that_were_given() -> None:
    form = {"mode": "live", "tls": "no", "max_downtime_ms": "50", "channels": ""}
    assert asked(form)["options"] == {"is_encrypted": False, "max_downtime_ms": 50}
    assert asked({"tls": ""})["options"] == {}


@pytest.mark.parametrize("form", [{"mode": "by-post"}, {"channels": "many"}])
def test_what_cannot_be_meant_is_refused(form: dict[str, str]) -> None:
    with pytest.raises(InvalidInput):
        asked(form)


async def page_of(browse: Browse, query: str = "") -> str:
    page = await (await browse(mirror_of(vm())).log_in("operator")).get(f"/vms/web1/migrate{query}")
    assert page.status_code == 200
    return page.text


async def test_the_plan_is_shown_before_anything_moves(browse: Browse, api: FakeApi) -> None:
    api.answers[PATH] = PLAN
    text = await page_of(browse, "?target=host2&csrftoken=x&surprise=1")
    for told in ("it has the most free memory", "both hosts reach shared", "use another", "8 GiB stay free"):
        assert told in text
    assert text.index("the link is slow") < text.index("both hosts reach shared"), "the worst first"
    assert '<input type="hidden" name="target" value="host2">' in text
    assert "surprise" not in text.split("<main")[1]
    assert '<button class="primary">' in text
    assert [p for _, p, _ in api.changes()] == ["/vms/web1/migration-plan"]


async def test_a_quick_one_tells_its_outage(browse: Browse, api: FakeApi) -> None:
    api.answers[PATH] = {**PLAN, "mode": "quick", "forecast": FORECAST}
    text = await page_of(browse, "?mode=quick")
    assert "9.5 s" in text
    assert "faster than it is written" in text
    assert "Migrate, with an outage" in text


@pytest.mark.parametrize("change", [{"findings": [REFUSED]}, {"target": None}])
async def test_a_refused_move_cannot_be_pressed(browse: Browse, api: FakeApi, change: dict[str, Any]) -> None:
    api.answers[PATH] = {**PLAN, **change}
    assert '<button class="primary" disabled>' in await page_of(browse)


async def test_without_a_plan_the_cause_is_told(browse: Browse, api: FakeApi) -> None:
    api.answers[PATH] = Refused("web1 is stopped", "start it")
    text = await page_of(browse)
    assert "web1 is stopped" in text
    assert "start it" in text
    assert "disabled" in text


async def test_the_host_it_runs_on_is_no_target(browse: Browse, api: FakeApi) -> None:
    api.answers[PATH] = PLAN
    text = await page_of(browse)
    assert '<option value="host2"' in text
    assert '<option value="host1"' not in text


async def test_a_move_leads_to_its_task(browse: Browse, api: FakeApi) -> None:
    api.answers[("POST", "/vms/web1/migrate")] = {"id": "t5"}
    browser = await browse(mirror_of(vm())).log_in("operator")
    answer = await browser.post("/vms/web1/migrate", mode="live", target="host2")
    assert answer.headers["hx-redirect"] == "/tasks/t5"
    assert api.changes() == [("POST", "/vms/web1/migrate", {"mode": "live", "target": "host2", "options": {}})]


async def test_viewers_move_nothing(browse: Browse, api: FakeApi) -> None:
    browser = await browse(mirror_of(vm())).log_in("viewer")
    assert (await browser.get("/vms/web1/migrate")).status_code == 403
    await browser.post("/vms/web1/migrate", mode="live")
    assert api.changes() == []
