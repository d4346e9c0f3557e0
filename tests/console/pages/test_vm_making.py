from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.console.conftest import Browser
from tests.console.fake_api import FakeApi
from tests.console.pages.vm_fields import mirror_of, vm
from zugvogel.console.mirror import Mirror
from zugvogel.console.pages.vm_making import asked
from zugvogel.domain.requests import CreateVm
from zugvogel.errors import InvalidInput

Browse = Callable[[Mirror], Browser]

FORM = {"name": "web9", "memory": "2 GiB", "cpus": "2", "disks": "20 GiB, 1 TiB", "disk_format": "raw"}
MADE = {"id": "t1", "state": "done", "version": 1}
BEING_MADE = {**MADE, "state": "running"}


def test_a_form_is_what_the_api_takes() -> None:
    form = {**FORM, "image": "debian-12", "restart_priority": "high", "anti_affinity": "", "datastore": "shared"}
    made = CreateVm.model_validate(asked(form, {"networks": ["lan", "dmz"]}))
    assert made.networks == ("lan", "dmz")
    assert made.image == "debian-12"
    assert made.ha.restart_priority == "high"
    assert [(d.size_bytes, d.format) for d in made.disks] == [(20 * 2**30, "raw"), (2**40, "raw")]
    assert made.display == "vga"


def test_no_network_means_none_rather_than_the_only_one() -> None:
    assert asked(FORM, {})["networks"] == []


@pytest.mark.parametrize("wrong", [{"memory": ""}, {"cpus": "-1"}, {"disks": ""}, {"disks": "20 bananas"}])
def test_what_cannot_be_meant_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(InvalidInput):
        asked({**FORM, **wrong}, {})


async def test_the_page_offers_what_there_is(browse: Browse) -> None:
    mirror = mirror_of(vm(ha={"anti_affinity": "shop"}))
    page = await (await browse(mirror).log_in("operator")).get("/vms/_new")
    assert page.status_code == 200
    for offered in ('value="shared"', 'name="networks" value="lan" checked', '<option value="shop">'):
        assert offered in page.text
    assert (await (await browse(mirror).log_in("viewer")).get("/vms/_new")).status_code == 403


@pytest.mark.parametrize(
    ("task", "is_started", "goto"),
    [(BEING_MADE, "", "/tasks/t1"), (MADE, "1", "/tasks/t2"), (BEING_MADE, "1", "/tasks/t2")],
)
async def test_it_is_made_and_started(
    browse: Browse, api: FakeApi, task: dict[str, Any], is_started: str, goto: str
) -> None:
    api.answers |= {
        ("POST", "/vms"): task,
        ("GET", "/tasks/t1"): MADE,
        ("POST", "/vms/web9/start"): {"id": "t2"},
    }
    answer = await (await browse(mirror_of()).log_in("operator")).post("/vms/_new", **FORM, is_started=is_started)
    assert answer.headers["hx-redirect"] == goto
    assert (("POST", "/vms/web9/start", {}) in api.changes()) is bool(is_started)


async def test_one_that_is_forced_is_made_and_started_all_the_same(browse: Browse, api: FakeApi) -> None:
    api.answers |= {("POST", "/vms"): MADE, ("POST", "/vms/web9/start"): {"id": "t2"}}
    browser = await browse(mirror_of()).log_in("operator")
    await browser.post("/vms/_new", **FORM, is_started="1", is_forced="1")
    (made, started) = api.changes()
    assert CreateVm.model_validate(made[2]).is_forced
    assert started == ("POST", "/vms/web9/start", {"is_forced": True})


async def test_one_that_takes_long_is_not_waited_for(
    browse: Browse, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zugvogel.console.pages.vm_making.MADE_WITHIN_S", 0.0)
    api.answers[("POST", "/vms")] = BEING_MADE
    answer = await (await browse(mirror_of()).log_in("operator")).post("/vms/_new", **FORM, is_started="1")
    assert "still being made" in answer.text
    assert 'href="/tasks/t1"' in answer.text
    assert [path for _, path, _ in api.changes()] == ["/vms"]


async def test_one_that_failed_is_not_started(browse: Browse, api: FakeApi) -> None:
    api.answers[("POST", "/vms")] = {**MADE, "state": "failed"}
    answer = await (await browse(mirror_of()).log_in("operator")).post("/vms/_new", **FORM, is_started="1")
    assert answer.headers["hx-redirect"] == "/tasks/t1", "where the cause stands"
    assert [path for _, path, _ in api.changes()] == ["/vms"]
