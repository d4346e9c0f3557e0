from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.console.conftest import Browser
from tests.console.fake_api import FakeApi
from tests.console.pages.host_fields import host, mirror_of, network
from tests.console.pages.vm_fields import vm
from zugvogel.console.mirror import Fields, Mirror
from zugvogel.console.pages.networks import on_host

Browse = Callable[[Mirror], Browser]
AWARE = [{"name": "br0", "mtu": 9000, "is_vlan_aware": True}]


@pytest.mark.parametrize(
    ("fields", "there", "state"),
    [
        ({}, {}, "present"),
        ({"bridges": {"*": "br7"}}, {}, "missing"),
        ({"bridges": {"host2": "br0"}}, {}, "missing"),
        ({"bridges": {"*": "br7", "host1": "br0"}}, {}, "present"),
        ({"vlan": 20}, {}, "unfiltered"),
        ({"vlan": 20}, {"bridges": AWARE}, "present"),
        ({}, {"memory_total_bytes": 0, "bridges": []}, "unknown"),
    ],
)
def test_whether_a_network_is_on_a_host(fields: Fields, there: Fields, state: str) -> None:
    assert on_host(network(**fields), host(**there))["state"] == state


@pytest.mark.parametrize("language", ["en", "de"])
async def test_the_page_says_where_a_bridge_is_missing(browse: Browse, language: str) -> None:
    mirror = mirror_of(host(), host("host2", bridges=[]), networks=[network()], vms=[vm()])
    browser = await browse(mirror).log_in("viewer")
    text = (await browser.get("/networks", **{"accept-language": language})).text
    row = text.split('id="network-lan"')[1].split("</tr>")[0]
    assert "/hosts/host2" in row
    assert "/hosts/host1" not in row
    assert "data-opens" not in text


async def test_only_networks_without_vms_can_be_removed(browse: Browse) -> None:
    mirror = mirror_of(host(), networks=[network(), network("dmz")], vms=[vm()])
    text = (await (await browse(mirror).log_in("admin")).get("/networks")).text
    assert 'data-opens="remove"' not in text.split('id="network-lan"')[1].split("</tr>")[0]
    assert "&#34;dmz&#34;" in text.split('id="network-dmz"')[1].split("</tr>")[0]


async def test_a_network_is_added(browse: Browse, api: FakeApi) -> None:
    api.answers[("POST", "/networks")] = network()
    browser = await browse(mirror_of(host())).log_in("admin")
    await browser.post("/networks/add", name="lan", bridge="br0", vlan="", mtu="9000", hosts="host1")
    body = {"name": "lan", "bridge": "br0", "vlan": 0, "mtu": 9000, "hosts": ["host1"]}
    assert api.changes() == [("POST", "/networks", body)]


async def test_a_vlan_that_is_no_number_is_refused(browse: Browse, api: FakeApi) -> None:
    browser = await browse(mirror_of(host())).log_in("admin")
    answer = await browser.post("/networks/add", name="lan", bridge="br0", vlan="twenty")
    assert "is no number" in answer.text
    assert api.changes() == []


async def test_a_name_stays_one_part_of_the_path(browse: Browse, api: FakeApi) -> None:
    api.answers[("DELETE", "/networks/lan")] = {"done": True}
    browser = await browse(mirror_of(host())).log_in("admin")
    assert "lan" in (await browser.post("/networks/remove", name="lan")).text
    await browser.post("/networks/remove", name="../hosts/host1")
    assert [p for _, p, _ in api.changes()] == ["/networks/lan", "/networks/..%2Fhosts%2Fhost1"]
