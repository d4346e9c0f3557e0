"""The page; its actions are in tests/console/test_actions.py."""

from __future__ import annotations

import html
import re
from collections.abc import Callable

import pytest

from tests.console.api_fields import HOSTILE, ha, settings
from tests.console.conftest import Browser
from tests.console.fake_api import filled_mirror
from zugvogel.console.mirror import Mirror
from zugvogel.console.pages.settings import SWITCH, protected
from zugvogel.core.protections import FENCE, WATCHDOG
from zugvogel.domain.ha import Protection
from zugvogel.domain.settings import SETTINGS

Browse = Callable[[Mirror], Browser]
CHANGED = "das.failuredetectiontime"


async def shown(browse: Browse, query: str = "", role: str = "viewer", language: str = "en") -> str:
    mirror = filled_mirror(settings=settings(das_failuredetectiontime=9000), ha={"ha": ha()})
    browser = await browse(mirror).log_in(role)
    await browser.post("/preferences", language=language)
    page = await browser.get(f"/settings{query}")
    assert page.status_code == 200
    return page.text


def names(page: str) -> set[str]:
    return set(re.findall(r'<tr id="setting-([^"]+)"', page))


async def test_every_setting_is_there_with_its_reason(browse: Browse) -> None:
    page = html.unescape(await shown(browse))
    assert names(page) == set(SETTINGS) - {SWITCH}
    for setting in SETTINGS.values():
        assert setting.name == SWITCH or setting.reason in page
    assert "<form method" not in page.split('id="live_rows"')[1].split("</section>")[0]


async def test_the_changed_ones_can_be_seen_alone(browse: Browse) -> None:
    page = await shown(browse, "?changed=1")
    assert names(page) == {CHANGED}
    assert "changed</span>" in page


async def test_they_can_be_searched(browse: Browse) -> None:
    assert names(await shown(browse, "?q=failuredetection")) >= {CHANGED}
    assert "No setting is like that." in await shown(browse, "?q=no-such-setting")


@pytest.mark.parametrize("language", ["en", "de"])
async def test_admins_get_a_field_for_each(browse: Browse, language: str) -> None:
    page = (await shown(browse, role="admin", language=language)).split('id="live_rows"')[1]
    fields = set(re.findall(r'(?:<select name="value"|<input name="value"[^>]*) aria-label="([^"]+)"', page))
    assert fields == set(SETTINGS) - {SWITCH}
    assert 'value="9000"' in page
    for setting in SETTINGS.values():
        if setting.choices:
            for choice in setting.choices:
                assert f">{choice}</option>" in page
    assert page.count("selected>") == len(
        [s for s in SETTINGS.values() if s.name != SWITCH and (s.choices or isinstance(s.default, bool))]
    )


@pytest.mark.parametrize(("role", "is_offered"), [("viewer", False), ("operator", False), ("admin", True)])
async def test_only_admins_may_switch_high_availability(browse: Browse, role: str, is_offered: bool) -> None:
    page = await shown(browse, role=role)
    assert ('action="/ha/disable"' in page) is is_offered
    assert ('action="/ha/enable"' in page) is is_offered


def protection(name: str, subject: str, why: str = "") -> Protection:
    return Protection(name=name, subject=subject, is_present=not why, why=why)


def test_what_is_missing_is_told_by_its_reason() -> None:
    told = ha(
        protections=[
            protection(each, subject, why).model_dump(mode="json")
            for each, subject, why in (
                (WATCHDOG, "host10", "no device"),
                (WATCHDOG, "host2", "no device"),
                (FENCE, "host2", ""),
                ("something else", "x", ""),
            )
        ]
    )
    table = protected("hosts", (WATCHDOG, FENCE), told)
    assert table.lacking == {WATCHDOG: {"no device": ["host2", "host10"]}, FENCE: {}}
    assert [(name, [bool(cell) for cell in cells]) for name, cells in table.rows] == [
        ("host2", [True, True]),
        ("host10", [True, False]),
    ]
    assert protected("hosts", (WATCHDOG,), None).rows == []


@pytest.mark.parametrize("language", ["en", "de"])
async def test_protections_are_shown_as_text(browse: Browse, language: str) -> None:
    protections = [protection(WATCHDOG, "host1").model_dump(), protection(FENCE, "host1", HOSTILE).model_dump()]
    browser = await browse(filled_mirror(ha={"ha": ha(protections=protections)})).log_in("viewer")
    await browser.post("/preferences", language=language)
    page = (await browser.get("/settings")).text
    assert "&gt;&lt;img src=x" in page
    assert "<img src=x" not in page
