from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.console.conftest import Browser
from tests.console.fake_api import FakeApi
from tests.console.pages.host_fields import host, mirror_of, report, store
from tests.console.pages.vm_fields import vm
from zugvogel.console.mirror import Mirror

Browse = Callable[[Mirror], Browser]


async def page_of(browse: Browse, mirror: Mirror, path: str, role: str = "viewer", language: str = "en") -> str:
    page = await (await browse(mirror).log_in(role)).get(path, **{"accept-language": language})
    assert page.status_code == 200, page.text
    return page.text


def two_hosts(**other: Any) -> list[Any]:
    return [host(), host("host2", beat_ages_s={"san": 16.0}, **other)]


@pytest.mark.parametrize("language", ["en", "de"])
async def test_the_list_says_where_a_datastore_is_not_usable_and_why(browse: Browse, language: str) -> None:
    hosts = {"host1": report(), "host2": report(is_usable=False, why="I/O error")}
    mirror = mirror_of(*two_hosts(), datastores=[store(hosts=hosts)])
    text = await page_of(browse, mirror, "/datastores", language=language)
    row = text.split('id="store-san"')[1].split("</tr>")[0]
    assert "host2: I/O error" in row
    assert "/srv/san" in row
    assert "its image locks go with a dead host" in row


async def test_what_a_failed_host_told_counts_no_more(browse: Browse) -> None:
    hosts = {"host1": report(), "host2": report()}
    failed = two_hosts(verdict="failed", why="no heartbeat for 33 s")
    text = await page_of(browse, mirror_of(*failed, datastores=[store(hosts=hosts)]), "/datastores")
    assert "1 of 2" in text
    assert "host2: no heartbeat for 33 s" in text


async def test_a_datastore_shows_its_leases_and_beats(browse: Browse) -> None:
    vms = [vm("web1", datastore="san", epoch=7), vm("web2", datastore="other")]
    text = await page_of(browse, mirror_of(*two_hosts(), datastores=[store()], vms=vms), "/datastores/san")
    lease = text.split('id="lease-web1"')[1].split("</tr>")[0]
    assert "/hosts/host1" in lease
    assert ">7</td>" in lease
    assert "lease-web2" not in text
    assert re.search(r'still</span>\s+<span class="nowrap">16 s', text.split('id="beat-host2"')[1])
    assert "it has told nothing of this datastore" in text.split('id="beat-host2"')[1]


@pytest.mark.parametrize(("vms", "offered"), [([], {"proof", "remove"}), ([vm(datastore="san")], {"proof"})])
async def test_only_an_empty_datastore_can_be_removed(browse: Browse, vms: list[Any], offered: set[str]) -> None:
    mirror = mirror_of(host(), datastores=[store()], vms=vms)
    text = await page_of(browse, mirror, "/datastores/san", "admin")
    assert set(re.findall(r'data-opens="(\w+)"', text)) == offered
    assert "data-opens" not in await page_of(browse, mirror, "/datastores/san", "operator")


@pytest.mark.parametrize(("is_chosen", "checked"), [(False, "default"), (True, "fence")])
async def test_the_form_of_the_proof_shows_what_holds(browse: Browse, is_chosen: bool, checked: str) -> None:
    mirror = mirror_of(host(), datastores=[store(proof="fence", is_proof_chosen=is_chosen)])
    text = await page_of(browse, mirror, "/datastores/san", "admin")
    assert re.findall(r'name="proof" value="(\w+)" checked', text) == [checked]


async def test_adding_leads_to_its_task(browse: Browse, api: FakeApi) -> None:
    api.answers[("POST", "/datastores")] = {"id": "t4"}
    browser = await browse(mirror_of(host())).log_in("admin")
    answer = await browser.post("/datastores/_add", name="fast", path="/srv/fast")
    body = {"name": "fast", "path": "/srv/fast", "is_local_allowed": False}
    assert api.changes() == [("POST", "/datastores", body)]
    assert answer.headers["hx-redirect"] == "/tasks/t4"


async def test_the_proof_is_changed(browse: Browse, api: FakeApi) -> None:
    api.answers[("PATCH", "/datastores/san")] = store(proof="guard")
    answer = await (await browse(mirror_of(host())).log_in("admin")).post("/datastores/san/proof", proof="guard")
    assert api.changes() == [("PATCH", "/datastores/san", {"proof": "guard"})]
    assert "guard" in answer.text


async def test_a_removed_datastore_leads_to_the_list(browse: Browse, api: FakeApi) -> None:
    api.answers[("DELETE", "/datastores/san")] = {"done": True}
    answer = await (await browse(mirror_of(host())).log_in("admin")).post("/datastores/san/remove")
    assert answer.headers["hx-redirect"] == "/datastores"


async def test_a_datastore_that_is_not_there_is_told_plainly(browse: Browse) -> None:
    page = await (await browse(mirror_of(host())).log_in("viewer")).get("/datastores/none")
    assert page.status_code == 404
    assert "there is no datastore none" in page.text


async def test_a_cluster_without_datastores_says_what_that_means(browse: Browse) -> None:
    assert "no host can be judged failed" in await page_of(browse, mirror_of(host()), "/datastores")
