from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.console.conftest import Browser
from tests.console.fake_api import FakeApi
from tests.console.pages.vm_fields import mirror_of, vm
from zugvogel.console.mirror import Mirror
from zugvogel.console.pages.vm_power import ACTIONS
from zugvogel.errors import Refused, SessionEnded

Browse = Callable[[Mirror], Browser]


@pytest.mark.parametrize(
    ("verb", "form", "body"),
    [
        ("start", {}, {"host": None, "is_forced": False}),
        ("start", {"host": "host2", "is_forced": "1"}, {"host": "host2", "is_forced": True}),
        ("stop", {"timeout_s": "60"}, {"timeout_s": 60}),
        ("stop", {"timeout_s": ""}, {"timeout_s": 0}),
        ("kill", {}, None),
        ("suspend", {"is_compressed": "1"}, {"is_compressed": True}),
        ("resume", {"host": "host2"}, {"host": "host2"}),
    ],
)
async def test_long_work_leads_to_its_task(
    browse: Browse, api: FakeApi, verb: str, form: dict[str, str], body: Any
) -> None:
    api.answers[("POST", f"/vms/web1/{verb}")] = {"id": "t7"}
    answer = await (await browse(mirror_of(vm())).log_in("operator")).post(f"/vms/web1/{verb}", **form)
    assert api.changes() == [("POST", f"/vms/web1/{verb}", body)]
    assert 'href="/tasks/t7"' in answer.text
    assert "web1" in answer.text


@pytest.mark.parametrize("verb", ["reset", "discard"])
async def test_what_is_done_at_once_is_told(browse: Browse, api: FakeApi, verb: str) -> None:
    api.answers[("POST", f"/vms/web1/{verb}")] = {"done": True}
    answer = await (await browse(mirror_of(vm())).log_in("operator")).post(f"/vms/web1/{verb}")
    assert api.changes() == [("POST", f"/vms/web1/{verb}", None)]
    assert "web1" in answer.text


async def test_a_vm_is_deleted(browse: Browse, api: FakeApi) -> None:
    api.answers[("DELETE", "/vms/web1")] = {"id": "t7"}
    answer = await (await browse(mirror_of(vm())).log_in("operator")).post("/vms/web1/delete")
    assert api.changes() == [("DELETE", "/vms/web1", None)]
    assert 'href="/tasks/t7"' in answer.text


async def test_an_unregistered_vm_leaves_its_page(browse: Browse, api: FakeApi) -> None:
    api.answers[("POST", "/vms/web1/unregister")] = {"done": True}
    answer = await (await browse(mirror_of(vm())).log_in("operator")).post("/vms/web1/unregister")
    assert answer.headers["hx-redirect"] == "/vms"


@pytest.mark.parametrize("path", [action.path.format(name="web1") for action in ACTIONS])
async def test_a_viewer_can_do_none_of_it(browse: Browse, api: FakeApi, path: str) -> None:
    answer = await (await browse(mirror_of(vm())).log_in("viewer")).post(path)
    assert "needs the role operator" in answer.text
    assert api.changes() == []


async def test_a_refusal_is_told_with_its_next_step(browse: Browse, api: FakeApi) -> None:
    api.answers[("POST", "/vms/web1/kill")] = Refused("web1 is stopped", "start it first")
    answer = await (await browse(mirror_of(vm())).log_in("operator")).post("/vms/web1/kill")
    assert "web1 is stopped" in answer.text
    assert "start it first" in answer.text


async def test_a_session_that_ended_meanwhile_leads_to_the_login_page_and_back(
    browse: Browse, api: FakeApi
) -> None:
    browser = await browse(mirror_of(vm())).log_in("operator")
    api.answers[("POST", "/vms/web1/kill")] = SessionEnded("the session's time is over")
    browser.http.headers["hx-current-url"] = "http://console/vms/web1"
    answer = await browser.post("/vms/web1/kill")
    assert answer.headers["hx-redirect"] == "/login?next=/vms/web1"
