from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.console.conftest import Browser
from tests.console.fake_api import FakeApi
from tests.console.pages.vm_fields import EXPLAINED, mirror_of, vm
from zugvogel.console.mirror import Mirror
from zugvogel.console.pages.vm import changes
from zugvogel.errors import InvalidInput, SessionEnded, Unreachable

Browse = Callable[[Mirror], Browser]


@pytest.fixture
def explained(api: FakeApi) -> FakeApi:
    api.answers[("GET", "/ha/explain/web1")] = EXPLAINED
    return api


async def test_the_page_tells_the_state_and_why(browse: Browse, explained: FakeApi) -> None:
    event = {
        "id": "e1",
        "vm": "web1",
        "severity": "info",
        "cause": "web1 started on host1",
        "at": "2026-01-01T00:00:00Z",
    }
    other = {**event, "id": "e2", "vm": "web2", "cause": "web2 started"}
    mirror = mirror_of(vm(definition={"memory_bytes": 2**31}), events={"e1": event, "e2": other})
    page = await (await browse(mirror).log_in("viewer")).get("/vms/web1")
    for told in ("web1 runs on host1, epoch 3", "lease on shared: epoch 3, running", "if host1 fails: restarted"):
        assert told in page.text
    assert "2 GiB from the next start on" in page.text
    assert "52:54:00:00:00:01" in page.text
    assert "web1 started on host1" in page.text
    assert "web2 started" not in page.text
    asked = [(m, p, params) for _, m, p, params, _ in explained.asked if p.startswith("/ha")]
    assert asked == [("GET", "/ha/explain/web1", {"kind": "vm"})]


async def test_a_page_without_an_explanation_says_so_and_stands(browse: Browse, api: FakeApi) -> None:
    api.answers[("GET", "/ha/explain/web1")] = Unreachable("the active primary does not answer")
    page = await (await browse(mirror_of(vm())).log_in("viewer")).get("/vms/web1")
    assert page.status_code == 200
    assert "the active primary does not answer" in page.text


async def test_a_session_that_ended_leads_to_the_login_page_and_back(browse: Browse, api: FakeApi) -> None:
    browser = await browse(mirror_of(vm())).log_in("viewer")
    api.answers[("GET", "/ha/explain/web1")] = SessionEnded("the session's time is over")
    page = await browser.get("/vms/web1")
    assert page.status_code == 303
    assert page.headers["location"] == "/login?next=/vms/web1"


@pytest.mark.parametrize(
    ("fields", "offered"),
    [
        ({}, {"console", "display", "migrate", "stop", "suspend", "reset", "kill", "change"}),
        ({"is_migrating": True}, {"console", "display", "change"}),
        ({"state": "frozen"}, {"console", "display", "reset", "kill", "change"}),
        ({"state": "suspended", "host": None}, {"resume", "discard", "change"}),
        ({"state": "stopped", "host": None}, {"start", "unregister", "delete", "change"}),
        ({"state": "unknown"}, {"change"}),
    ],
)
async def test_what_the_state_allows_is_offered(
    browse: Browse, explained: FakeApi, fields: dict[str, Any], offered: set[str]
) -> None:
    page = await (await browse(mirror_of(vm(**fields))).log_in("operator")).get("/vms/web1")
    head = page.text.split('id="live_head"')[1].split('id="live_why"')[0]
    found = set(re.findall(r'data-opens="(\w+)"', head)) | set(re.findall(r'href="/vms/web1/(\w+)"', head))
    assert found - {"log"} == offered


async def test_a_viewer_is_offered_nothing(browse: Browse, explained: FakeApi) -> None:
    page = await (await browse(mirror_of(vm())).log_in("viewer")).get("/vms/web1")
    assert "<dialog" not in page.text
    assert "data-opens" not in page.text
    assert "/vms/web1/change" not in page.text


async def test_a_vm_that_is_not_there_is_told_from_one_that_is_not_known(
    browse: Browse, explained: FakeApi
) -> None:
    browser = await browse(mirror_of()).log_in("viewer")
    assert (await browser.get("/vms/web1")).status_code == 404


async def test_while_nothing_is_known_nothing_is_denied(
    browse: Browse, explained: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zugvogel.console.mirror.READY_S", 0.0)
    mirror = Mirror()
    mirror.take("trouble", {"topic": "", "cause": "the agent starts"})
    page = await (await browse(mirror).log_in("viewer")).get("/vms/web1")
    assert page.status_code == 503
    assert "the agent starts" in page.text


async def test_pages_are_there_in_german(browse: Browse, explained: FakeApi) -> None:
    explained.answers[("GET", "/vms/web1/log")] = {"qemu": "", "serial": "login: <b>"}
    browser = await browse(mirror_of(vm())).log_in("operator")
    await browser.post("/preferences", language="de")
    for path in ("", "/change", "/console", "/display", "/log"):
        page = await browser.get(f"/vms/web1{path}")
        assert page.status_code == 200
        assert '<html lang="de"' in page.text


async def test_the_logs_are_shown_as_text(browse: Browse, api: FakeApi) -> None:
    api.answers[("GET", "/vms/web1/log")] = {"qemu": "", "serial": "<script>alert(1)</script>"}
    browser = await browse(mirror_of(vm())).log_in("viewer")
    page = await browser.get("/vms/web1/log?lines=500")
    assert "&lt;script&gt;alert(1)" in page.text
    assert "<script>alert" not in page.text
    await browser.get("/vms/web1/log?lines=999999")
    asked = [params for _, _, path, params, _ in api.asked if path == "/vms/web1/log"]
    assert asked == [{"lines": 500}, {"lines": 100}]


# changing ----------------------------------------------------------------------------------------------


async def shown_form(browser: Browser) -> dict[str, str]:
    """What the page would send, untouched."""
    text = (await browser.get("/vms/web1/change")).text.split("hx-post=")[1].split("</form>")[0]
    form = dict(re.findall(r'<input[^>]* name="([^"]+)"[^>]* value="([^"]*)"', text))
    for name, options in re.findall(r'<select name="([^"]+)">(.*?)</select>', text, re.S):
        chosen = re.search(r'value="([^"]*)" selected', options)
        form[name] = chosen[1] if chosen else ""
    form.pop("add_networks", None)
    return form


async def test_a_form_that_was_not_touched_changes_nothing(browse: Browse, api: FakeApi) -> None:
    browser = await browse(mirror_of(vm(state="stopped"))).log_in("operator")
    answer = await browser.post("/vms/web1/change", **await shown_form(browser))
    assert "nothing was changed" in answer.text
    assert api.changes() == []


async def test_what_was_changed_is_sent_and_nothing_else(browse: Browse, api: FakeApi) -> None:
    api.answers[("PATCH", "/vms/web1")] = {}
    browser = await browse(mirror_of(vm(ha={"anti_affinity": "shop"}))).log_in("operator")
    form = {
        **await shown_form(browser),
        "memory_bytes": "1,5 GiB",
        "anti_affinity": "",
        "restart_priority": "high",
    }
    answer = await browser.post("/vms/web1/change", **form)
    assert answer.headers["hx-redirect"] == "/vms/web1"
    policy = {"restart_priority": "high", "anti_affinity": ""}
    assert api.changes() == [("PATCH", "/vms/web1", {"memory_bytes": 3 * 2**29, "ha": policy})]


def test_preferred_hosts_keep_their_order_and_can_all_be_taken_away() -> None:
    form = {"was_preferred_hosts": "host1 host2", "preferred_hosts": ""}
    assert changes(form, {"preferred_hosts": ["host1", "host2", ""]}) == {}
    assert changes(form, {"preferred_hosts": ["host2", "host1", "host2"]})["ha"] == {
        "preferred_hosts": ["host2", "host1"]
    }
    assert changes(form, {"preferred_hosts": ["", ""]})["ha"] == {"preferred_hosts": []}


def test_disks_and_networks_are_added() -> None:
    added = changes({"add_disks": "20 GiB, 1 TiB"}, {"add_networks": ["lan", "dmz"]})
    assert added == {
        "add_disks": [{"size_bytes": 20 * 2**30}, {"size_bytes": 2**40}],
        "add_networks": ["lan", "dmz"],
    }


@pytest.mark.parametrize(
    "form", [{"cpus": "two", "was_cpus": "2"}, {"memory_bytes": "much", "was_memory_bytes": "1"}]
)
def test_what_cannot_be_meant_is_refused(form: dict[str, str]) -> None:
    with pytest.raises(InvalidInput):
        changes(form, {})
