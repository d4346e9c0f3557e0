from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.console.api_fields import HOSTILE, event, host
from tests.console.conftest import Browser
from tests.console.fake_api import filled_mirror
from zugvogel.console.mirror import Mirror
from zugvogel.console.pages.events import evidence, flat
from zugvogel.domain.task import Severity

Browse = Callable[[Mirror], Browser]

EVENTS = {
    each["id"]: each
    for each in (
        event(1),
        event(2, kind="host.failed", subject="host3", severity=Severity.ERROR, message="host3 is dead"),
        event(3, kind="vm.frozen", severity=Severity.WARNING, host="host2", message="no beat"),
        event(4, kind="setting.changed", subject="das.enabled", by="user ada", task="t9", message="it is on"),
    )
}


async def shown(browse: Browse, query: str = "", language: str = "en") -> str:
    mirror = filled_mirror(events=EVENTS, hosts={name: host(name) for name in ("host1", "host2")})
    browser = await browse(mirror).log_in("viewer")
    await browser.post("/preferences", language=language)
    page = await browser.get(f"/events{query}")
    assert page.status_code == 200
    return page.text


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", [4, 3, 2, 1]),
        ("?severity=warning", [3, 2]),
        ("?severity=error", [2]),
        ("?severity=nonsense", [4, 3, 2, 1]),
        ("?kind=vm", [3, 1]),
        ("?kind=v", []),
        ("?host=host2", [3]),
        ("?q=dead", [2]),
        ("?q=web1+frozen", [3]),
        ("?kind=vm&severity=warning&host=host1", []),
    ],
)
async def test_the_list_is_filtered_newest_first(browse: Browse, query: str, found: list[int]) -> None:
    ids = re.findall(r'<tr id="event-(\d+)"', await shown(browse, query))
    assert [int(each) for each in ids] == found


@pytest.mark.parametrize("language", ["en", "de"])
async def test_each_tells_its_cause_and_evidence(browse: Browse, language: str) -> None:
    page = await shown(browse, language=language)
    for said in ("web1 started on host1", "lock.took_ms", "12.5", "host2, host3", "user ada"):
        assert said in page
    for link in ("/vms/web1", "/hosts/host3", "/tasks/t9"):
        assert f'href="{link}"' in page


async def test_what_is_hostile_stays_text(browse: Browse) -> None:
    told = event(5, subject=HOSTILE, message=HOSTILE, evidence={HOSTILE: {HOSTILE: HOSTILE}}, by=HOSTILE)
    page = (await (await browse(filled_mirror(events={"5": told})).log_in("viewer")).get("/events")).text
    assert "<img" not in page.split('id="content"')[1]
    assert "</script><b>" not in page


def test_evidence_is_told_flat_and_without_what_is_empty() -> None:
    told = {"evidence": {"a": {"b": [1, 2], "c": None}, "d": [{"e": 0.1234567890}], "f": "", "g": [], "h": False}}
    assert evidence(told) == [("a.b", "1, 2"), ("d[1].e", "0.123457"), ("h", "False")]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_evidence_can_be_told(value: object) -> None:
    assert all(isinstance(name, str) and isinstance(text, str) for name, text in flat("", value))
