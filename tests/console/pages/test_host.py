from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.console.conftest import Browser
from tests.console.fake_api import FakeApi
from tests.console.pages.host_fields import EXPLAINED, ha, host, mirror_of, network, protection, report
from tests.console.pages.vm_fields import vm
from zugvogel.console.mirror import Mirror
from zugvogel.errors import NotFound, Unreachable

Browse = Callable[[Mirror], Browser]
FENCE = {"host": "host1", "agent": "fence_ipmilan", "parameters": {"ip": "192.0.2.13", "password": "********"}}


@pytest.fixture
def explained(api: FakeApi) -> FakeApi:
    api.answers[("GET", "/ha/explain/host1")] = EXPLAINED
    return api


async def page_of(browse: Browse, mirror: Mirror, role: str = "viewer", language: str = "en") -> str:
    browser = await browse(mirror).log_in(role)
    page = await browser.get("/hosts/host1", **{"accept-language": language})
    assert page.status_code == 200, page.text
    return page.text


def section(text: str, block: str) -> str:
    return text.split(f'id="{block}"')[1].split("</section>")[0]


@pytest.mark.parametrize("language", ["en", "de"])
async def test_the_page_tells_the_verdict_and_why(browse: Browse, explained: FakeApi, language: str) -> None:
    text = section(await page_of(browse, mirror_of(host()), language=language), "live_why")
    for told in ("host1 is live: heartbeat heard", "it is a primary", "host2", "nothing"):
        assert told in text
    asked = [(p, params) for _, _, p, params, _ in explained.asked if p.startswith("/ha")]
    assert asked == [("/ha/explain/host1", {"kind": "host"})]


async def test_without_an_explanation_the_watch_s_reason_stands(browse: Browse, api: FakeApi) -> None:
    api.answers[("GET", "/ha/explain/host1")] = Unreachable("the active primary does not answer")
    text = section(await page_of(browse, mirror_of(host(why="last heard 8 s ago"))), "live_why")
    assert "the active primary does not answer" in text
    assert "last heard 8 s ago" in text


async def test_signs_of_life_are_told_in_words_as_well(browse: Browse, explained: FakeApi) -> None:
    silent = host(heartbeat_age_s=16.0, beat_ages_s={"san": 9.5})
    text = section(await page_of(browse, mirror_of(silent)), "live_signs")
    assert re.search(r'silent</span>\s+<span class="nowrap">16 s', text)
    assert re.search(r'late</span>\s+<span class="nowrap">9\.5 s', text)


async def test_its_vms_can_be_moved_by_operators_while_they_run(browse: Browse, explained: FakeApi) -> None:
    vms = [vm("web1"), vm("web2", is_migrating=True), vm("web3", state="frozen"), vm("web4", host="host2")]
    mirror = mirror_of(host(), vms=vms)
    text = await page_of(browse, mirror, "operator")
    assert re.findall(r'href="/vms/(\w+)/migrate"', text) == ["web1"]
    assert "web3" in text
    assert "web4" not in text
    assert "/migrate" not in await page_of(browse, mirror)


@pytest.mark.parametrize(
    ("role", "fields", "offered"),
    [
        ("operator", {"verdict": "failed"}, set()),
        ("admin", {}, {"maintenance-on", "domain"}),
        ("admin", {"is_in_maintenance": True, "verdict": "maintenance"}, {"maintenance-off", "domain"}),
        ("admin", {"verdict": "failed"}, {"maintenance-on", "domain", "confirm-dead", "remove"}),
    ],
)
async def test_what_role_and_verdict_allow_is_offered(
    browse: Browse, explained: FakeApi, role: str, fields: dict[str, Any], offered: set[str]
) -> None:
    text = await page_of(browse, mirror_of(host(**fields)), role)
    head = text.split('id="live_head"')[1].split('id="live_why"')[0]
    assert set(re.findall(r'data-opens="([\w-]+)"', head)) == offered


async def test_while_it_is_emptied_the_task_is_offered_instead(browse: Browse, explained: FakeApi) -> None:
    emptying = {
        "id": "t9",
        "kind": "host.maintenance",
        "subject": "host1",
        "state": "running",
        "created_at": "2026-01-01T00:00:00Z",
        "progress": {"message": "moving web1", "phase": "", "fraction": None},
        "error": None,
    }
    text = await page_of(browse, mirror_of(host(), tasks=[emptying]), "admin")
    assert 'href="/tasks/t9"' in text
    assert "moving web1" in text
    assert 'data-opens="maintenance-on"' not in text


async def test_the_maintenance_form_says_what_moves_and_where_there_is_room(
    browse: Browse, explained: FakeApi
) -> None:
    vms = [vm("web1"), vm("web2"), vm("web3", state="stopped")]
    text = await page_of(browse, mirror_of(host(), host("host2"), vms=vms), "admin")
    dialog = text.split('id="maintenance-on"')[1].split("</dialog>")[0]
    assert "2 VMs with 2 GiB" in dialog
    assert "host2 – 48 GiB free" in dialog
    alone = await page_of(browse, mirror_of(host(), host("host2", verdict="failed")), "admin")
    assert "all of them stay here" in alone.split('id="maintenance-on"')[1].split("</dialog>")[0]


async def test_a_fence_is_shown_to_admins_without_its_secrets(browse: Browse, explained: FakeApi) -> None:
    explained.answers[("GET", "/hosts/host1/fence")] = FENCE
    fenced = protection("power fence", "host1", True, "a device can cut it")
    mirror = mirror_of(host(), ha=ha(protections=[fenced]))
    text = await page_of(browse, mirror, "admin")
    assert "fence_ipmilan" in text
    assert "ip=192.0.2.13" in text
    assert "(secret)" in text
    assert "********" not in text
    assert 'action="/hosts/host1/fence/test"' in text
    seen = await page_of(browse, mirror, "operator")
    assert "a device can cut it" in seen
    assert "fence_ipmilan" not in seen


async def test_a_host_without_a_fence_can_get_one(browse: Browse, explained: FakeApi) -> None:
    explained.answers[("GET", "/hosts/host1/fence")] = NotFound("no device is configured")
    text = section(await page_of(browse, mirror_of(host()), "admin"), "live_protections")
    assert 'data-opens="fence"' in text
    assert "/fence/test" not in text


async def test_its_datastores_and_networks_say_what_is_amiss(browse: Browse, explained: FakeApi) -> None:
    broken = report(is_usable=False, why="writing the beat: I/O error")
    networks = [network("dmz", bridges={"*": "br7"})]
    text = await page_of(browse, mirror_of(host(datastores=[broken]), networks=networks))
    assert "writing the beat: I/O error" in section(text, "live_datastores")
    assert "there is no bridge br7" in section(text, "live_networks")


async def test_what_a_failed_host_told_of_datastores_counts_no_more(browse: Browse, explained: FakeApi) -> None:
    text = section(await page_of(browse, mirror_of(host(verdict="failed"))), "live_datastores")
    assert "it was" in text
    assert "badge good" not in text


async def test_a_host_that_has_not_reported_has_a_page(browse: Browse, explained: FakeApi) -> None:
    fields: dict[str, Any] = {
        "cores": 0,
        "memory_total_bytes": 0,
        "memory_available_bytes": 0,
        "bridges": [],
        "datastores": [],
    }
    new = host(heartbeat_age_s=None, beat_ages_s={}, **fields)
    text = await page_of(browse, mirror_of(new, ha=ha(protections=[]), networks=[network()]))
    assert "It has not reported yet." in text
    assert "not reported yet" in section(text, "live_networks")


async def test_a_host_that_is_not_there_is_told_plainly(browse: Browse) -> None:
    page = await (await browse(mirror_of(host())).log_in("viewer")).get("/hosts/host9")
    assert page.status_code == 404
    assert "there is no host host9" in page.text
