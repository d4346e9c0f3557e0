from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.console.conftest import Browser
from tests.console.fake_api import FakeApi
from tests.console.pages.host_fields import host, mirror_of
from zugvogel.console.mirror import Mirror
from zugvogel.console.pages.cluster_doing import alike, is_majority_lost

Browse = Callable[[Mirror], Browser]
V4 = ["avx512f", "avx512bw"]
BASELINE = {
    "current": "x86-64-v3",
    "is_set": False,
    "best": "x86-64-v3",
    "missing": {"x86-64-v3": {}, "x86-64-v4": {"host10": V4, "host2": V4}},
    "vendors": {"host10": "GenuineIntel", "host2": "AuthenticAMD"},
}


async def test_the_line_for_a_new_host_is_shown_once(browse: Browse, api: FakeApi) -> None:
    api.answers[("POST", "/join-tokens")] = {"token": "3f9a.secret.pin"}
    answer = await (await browse(mirror_of(host())).log_in("admin")).post("/cluster/invite")
    assert "zv host join https://api:7440 --token 3f9a.secret.pin" in answer.text
    assert "data-passes" not in answer.text


@pytest.mark.parametrize(
    ("changed", "told"),
    [({"host10": "primary", "host2": "secondary"}, "host2: secondary, host10: primary"), ({}, "stay")],
)
async def test_roles_are_given_out_anew(browse: Browse, api: FakeApi, changed: dict[str, str], told: str) -> None:
    api.answers[("POST", "/cluster/reconfigure")] = {"changed": changed}
    answer = await (await browse(mirror_of(host())).log_in("admin")).post("/cluster/reconfigure")
    assert told in answer.text


async def test_the_registry_is_formed_anew_only_by_those_who_take_the_loss(browse: Browse, api: FakeApi) -> None:
    api.answers[("POST", "/cluster/reform")] = {"done": True}
    browser = await browse(mirror_of(host())).log_in("admin")
    assert "nobody has said that the loss is taken" in (await browser.post("/cluster/reform", host="host1")).text
    assert api.changes() == []
    await browser.post("/cluster/reform", host="host1", is_loss_taken="1")
    assert api.changes() == [("POST", "/cluster/reform", {"host": "host1"})]


@pytest.mark.parametrize(
    ("primaries", "failed", "is_lost"),
    [(5, 2, False), (5, 3, True), (3, 1, False), (3, 2, True), (2, 1, True), (1, 0, False), (0, 0, False)],
)
def test_a_majority_of_the_primaries_is_lost(primaries: int, failed: int, is_lost: bool) -> None:
    hosts = [host(f"host{i}", verdict="failed" if i < failed else "live") for i in range(primaries)]
    assert is_majority_lost([*hosts, host("other", role="secondary", verdict="failed")]) is is_lost


async def test_only_admins_act_on_the_cluster(browse: Browse) -> None:
    mirror = mirror_of(host())
    text = (await (await browse(mirror).log_in("admin")).get("/")).text
    assert set(re.findall(r'data-opens="([\w-]+)"', text)) == {"invite", "reconfigure"}
    assert "data-opens" not in (await (await browse(mirror).log_in("operator")).get("/")).text


async def test_a_lost_majority_can_be_made_up_for_from_a_host_that_lives(browse: Browse) -> None:
    hosts = [host("host1"), host("host2", verdict="failed"), host("host3", verdict="failed")]
    text = (await (await browse(mirror_of(*hosts)).log_in("admin")).get("/")).text
    assert 'data-opens="reform"' in text
    dialog = text.split('<dialog id="reform"')[1].split("</dialog>")[0]
    assert re.findall(r"<option>(\w+)</option>", dialog) == ["host1"]


def test_hosts_that_lack_the_same_are_told_together() -> None:
    assert alike({"host10": V4, "host2": V4, "host3": ["avx2"]}) == [
        (V4, ["host2", "host10"]),
        (["avx2"], ["host3"]),
    ]


@pytest.mark.parametrize("language", ["en", "de"])
async def test_the_baseline_says_who_lacks_what(browse: Browse, api: FakeApi, language: str) -> None:
    api.answers[("GET", "/cluster/baseline")] = BASELINE
    browser = await browse(mirror_of(host())).log_in("viewer")
    text = (await browser.get("/baseline", **{"accept-language": language})).text
    assert "avx512f avx512bw" in text
    assert "host2, host10" in text
    assert "AuthenticAMD" in text
    assert "banner warning" in text, "vendors do not mix"
    assert "data-opens" not in text


async def test_only_models_that_every_host_can_run_are_offered(browse: Browse, api: FakeApi) -> None:
    api.answers[("GET", "/cluster/baseline")] = api.answers[("PUT", "/cluster/baseline")] = BASELINE
    browser = await browse(mirror_of(host())).log_in("admin")
    text = (await browser.get("/baseline")).text
    assert '<option value="x86-64-v3">' in text
    assert 'value="x86-64-v4"' not in text
    await browser.post("/baseline", model="auto")
    assert api.changes() == [("PUT", "/cluster/baseline", {"model": "auto"})]
