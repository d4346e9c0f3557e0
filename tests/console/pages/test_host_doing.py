from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.console.conftest import Browser
from tests.console.fake_api import FakeApi
from tests.console.pages.host_fields import host, mirror_of
from zugvogel.console.mirror import Mirror
from zugvogel.console.pages.host_doing import pairs
from zugvogel.errors import InvalidInput, Refused

Browse = Callable[[Mirror], Browser]


@pytest.mark.parametrize(
    ("form", "wish"),
    [
        ({"is_on": "1"}, {"is_on": True, "is_quick_fallback": False, "is_return": False}),
        ({"is_on": "1", "is_return": "1"}, {"is_on": True, "is_quick_fallback": False, "is_return": False}),
        (
            {"is_on": "0", "is_return": "1", "is_quick_fallback": "1"},
            {"is_on": False, "is_quick_fallback": True, "is_return": True},
        ),
    ],
)
async def test_maintenance(browse: Browse, api: FakeApi, form: dict[str, str], wish: dict[str, Any]) -> None:
    api.answers[("POST", "/hosts/host1/maintenance")] = {"id": "t1"}
    answer = await (await browse(mirror_of(host())).log_in("admin")).post("/hosts/host1/maintenance", **form)
    assert api.changes() == [("POST", "/hosts/host1/maintenance", wish)]
    assert 'href="/tasks/t1"' in answer.text


async def test_a_failure_domain_is_set_and_taken_away(browse: Browse, api: FakeApi) -> None:
    api.answers[("PATCH", "/hosts/host1")] = host()
    browser = await browse(mirror_of(host())).log_in("admin")
    assert "rack2" in (await browser.post("/hosts/host1/change", failure_domain="rack2")).text
    await browser.post("/hosts/host1/change", failure_domain="")
    assert [body for _, _, body in api.changes()] == [{"failure_domain": "rack2"}, {"failure_domain": ""}]


async def test_nobody_confirms_a_death_without_the_word(browse: Browse, api: FakeApi) -> None:
    api.answers[("POST", "/hosts/host1/confirm-dead")] = {"id": "t2"}
    browser = await browse(mirror_of(host())).log_in("admin")
    refused = await browser.post("/hosts/host1/confirm-dead")
    assert "nobody has said that its power is off" in refused.text
    assert api.changes() == []
    said = await browser.post("/hosts/host1/confirm-dead", is_off="1")
    assert api.changes() == [("POST", "/hosts/host1/confirm-dead", None)]
    assert "/tasks/t2" in said.text


async def test_what_the_api_refuses_is_told_and_marked(browse: Browse, api: FakeApi) -> None:
    api.answers[("DELETE", "/hosts/host1")] = Refused("host1 still holds web1", "stop it")
    answer = await (await browse(mirror_of(host())).log_in("admin")).post("/hosts/host1/remove")
    assert "host1 still holds web1" in answer.text
    assert "stop it" in answer.text
    assert answer.headers["x-zugvogel-refused"] == "1"


async def test_a_removed_host_leads_to_the_cluster(browse: Browse, api: FakeApi) -> None:
    api.answers[("DELETE", "/hosts/host1")] = {"done": True}
    answer = await (await browse(mirror_of(host())).log_in("admin")).post("/hosts/host1/remove")
    assert answer.headers["hx-redirect"] == "/"


async def test_a_fence_is_set_with_all_of_its_values(browse: Browse, api: FakeApi) -> None:
    api.answers[("PUT", "/hosts/host1/fence")] = {}
    form = {"agent": "fence_ipmilan", "parameters": "ip = 192.0.2.13\n\nlanplus=1", "password": "geheim"}
    answer = await (await browse(mirror_of(host())).log_in("admin")).post("/hosts/host1/fence", **form)
    assert api.changes() == [
        (
            "PUT",
            "/hosts/host1/fence",
            {
                "agent": "fence_ipmilan",
                "parameters": {"ip": "192.0.2.13", "lanplus": "1"},
                "secrets": {"password": "geheim"},
            },
        )
    ]
    assert "geheim" not in answer.text


async def test_a_fence_is_tested_and_removed(browse: Browse, api: FakeApi) -> None:
    api.answers[("POST", "/hosts/host1/fence/test")] = {"id": "t3"}
    api.answers[("DELETE", "/hosts/host1/fence")] = {"done": True}
    browser = await browse(mirror_of(host())).log_in("admin")
    assert "/tasks/t3" in (await browser.post("/hosts/host1/fence/test")).text
    await browser.post("/hosts/host1/fence/remove")
    assert [(m, p) for m, p, _ in api.changes()] == [
        ("POST", "/hosts/host1/fence/test"),
        ("DELETE", "/hosts/host1/fence"),
    ]


@pytest.mark.parametrize("text", ["ip", "=1", "ip=1\nip=2"])
def test_pairs_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        pairs(text)


def test_a_value_may_hold_an_equals_sign() -> None:
    assert pairs("ssl=a=b") == {"ssl": "a=b"}


@pytest.mark.parametrize(
    "verb", ["maintenance", "change", "confirm-dead", "remove", "fence", "fence/test", "fence/remove"]
)
async def test_operators_may_do_none_of_it(browse: Browse, api: FakeApi, verb: str) -> None:
    answer = await (await browse(mirror_of(host())).log_in("operator")).post(f"/hosts/host1/{verb}", is_off="1")
    assert "this needs the role admin" in answer.text
    assert api.changes() == []
