from __future__ import annotations

import html
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.console.api_fields import ha, settings
from tests.console.conftest import Browser
from tests.console.fake_api import filled_mirror
from zugvogel.console.mirror import Mirror
from zugvogel.console.pages.survival import ROWS

Browse = Callable[[Mirror], Browser]
README = Path(__file__).parents[3] / "README.md"


def readme_rows() -> list[tuple[str, ...]]:
    """Of the table "What survives which failure", without its numbers, links and code marks."""
    section = README.read_text().split("## What survives which failure", 1)[1].split("<details>", 1)[0]
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", section).replace("`", "")
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in plain.splitlines() if "|" in line]
    numbered = [row for row in rows if row[0].isdecimal()]
    assert [int(row[0]) for row in numbered] == list(range(1, len(numbered) + 1))
    return [tuple(row[1:]) for row in numbered]


def test_the_page_says_what_the_readme_says() -> None:
    assert [tuple(row) for row in ROWS] == readme_rows()


@pytest.mark.parametrize("language", ["en", "de"])
async def test_each_row_has_the_number_others_call_it_by(browse: Browse, language: str) -> None:
    mirror = filled_mirror(settings=settings(das_failuredetectiontime=9000), ha={"ha": ha(enabled=False)})
    browser = await browse(mirror).log_in("viewer")
    await browser.post("/preferences", language=language)
    page = (await browser.get("/survival")).text
    numbers = re.findall(r"<strong>(\d+)\.? ", page.split("<tbody>")[1])
    assert [int(number) for number in numbers] == list(range(1, len(ROWS) + 1))
    assert ("9.0 s" if language == "en" else "9,0 s") in page


async def test_the_page_says_all_of_it(browse: Browse) -> None:
    page = html.unescape((await (await browse(filled_mirror()).log_in("viewer")).get("/survival")).text)
    for row in ROWS:
        assert all(text in page for text in row)
