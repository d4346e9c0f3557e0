from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.console.api_fields import HOSTILE, task
from tests.console.conftest import Browser
from tests.console.fake_api import filled_mirror
from zugvogel.console.mirror import Mirror
from zugvogel.domain.task import Progress, TaskError, TaskState

Browse = Callable[[Mirror], Browser]
FAILED: dict[str, Any] = {"state": TaskState.FAILED, "progress": Progress()}

TASKS = {
    "01": task("01"),
    "02": task("02", kind="vm.create", subject="db1", owner="host2", state=TaskState.DONE),
    "03": task("03", kind="host.maintenance", subject="host3", state=TaskState.CANCELLED),
    "04": task("04", subject="web9", error=TaskError(code="x", cause=HOSTILE), **FAILED),
    "05": task("05", kind="datastore.adopt", subject="shared", state=TaskState.PENDING),
}


async def shown(browse: Browse, query: str = "", language: str = "en") -> str:
    browser = await browse(filled_mirror(tasks=TASKS)).log_in("viewer")
    await browser.post("/preferences", language=language)
    page = await browser.get(f"/tasks{query}")
    assert page.status_code == 200
    return page.text


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["05", "04", "03", "02", "01"]),
        ("?sort=began", ["01", "02", "03", "04", "05"]),
        ("?sort=kind", ["05", "03", "02", "01", "04"]),
        ("?sort=owner&down=1", ["02", "01", "03", "04", "05"]),
        ("?state=failed", ["04"]),
        ("?q=web", ["04", "01"]),
        ("?q=host2", ["02"]),
        ("?q=migrate+web9", ["04"]),
        ("?state=nonsense", []),
    ],
)
async def test_the_list_is_filtered_and_sorted(browse: Browse, query: str, found: list[str]) -> None:
    assert re.findall(r'<tr id="task-(\w+)"', await shown(browse, query)) == found


async def test_the_newest_is_the_first(browse: Browse) -> None:
    """Ids rise letter by letter, whatever numbers seem to be in them."""
    ids = ("01m87p3v9b76s", "01m87p3v37b76s", "01m87p3yb0arc0")
    browser = await browse(filled_mirror(tasks={each: task(each) for each in ids})).log_in("viewer")
    found = re.findall(r'<tr id="task-(\w+)"', (await browser.get("/tasks")).text)
    assert found == sorted(ids, reverse=True)


async def test_each_leads_to_what_it_is_about(browse: Browse) -> None:
    page = await shown(browse)
    for link in ("/tasks/01", "/vms/web1", "/hosts/host3", "/hosts/host2"):
        assert f'href="{link}"' in page
    assert "/vms/shared" not in page
    assert 'value="0.500"' in page, "how far it is"


@pytest.mark.parametrize("language", ["en", "de"])
async def test_causes_are_shown_as_text(browse: Browse, language: str) -> None:
    page = await shown(browse, language=language)
    assert "&gt;&lt;img src=x" in page
    assert "<img src=x" not in page


async def test_no_task_is_told(browse: Browse) -> None:
    assert "No task is like that." in await shown(browse, "?q=nothing")


async def test_long_lists_have_pages(browse: Browse) -> None:
    many = {f"{number:03}": task(f"{number:03}") for number in range(120)}
    browser = await browse(filled_mirror(tasks=many)).log_in("viewer")
    seen: list[str] = []
    for number in (1, 2, 3):
        page = await browser.get(f"/tasks?page={number}&q=web")
        seen += re.findall(r'<tr id="task-(\w+)"', page.text)
    assert seen == sorted(many, reverse=True)
    assert 'href="?q=web&amp;page=2"' in page.text
