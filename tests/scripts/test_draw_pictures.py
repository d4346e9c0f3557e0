"""Every drawn sequence has its text beside it, was drawn from it, and is shown somewhere."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "pictures" / "sequences"
PICTURES = sorted(FOLDER.glob("*.svg"))


def _script() -> Any:
    spec = importlib.util.spec_from_file_location("draw_pictures", ROOT / "scripts" / "draw_pictures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


draw_pictures = _script()


def test_every_picture_was_drawn_from_the_text_beside_it() -> None:
    assert [source.name for source in draw_pictures.stale()] == [], "run: make pictures"


def test_no_picture_is_without_a_text() -> None:
    assert PICTURES
    assert [picture.name for picture in PICTURES if not picture.with_suffix(".mmd").exists()] == []


def test_every_picture_is_shown() -> None:
    pages = "\n".join(page.read_text() for page in (ROOT / "docs").rglob("*.md"))
    assert [picture.name for picture in PICTURES if f"/{picture.name})" not in pages] == []


def test_a_changed_text_or_look_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (("a.mmd", "sequenceDiagram"), ("theme.json", "{}"), ("style.css", "svg {}")):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(draw_pictures, "FOLDER", tmp_path)
    source = tmp_path / "a.mmd"
    assert draw_pictures.stale() == [source]
    (tmp_path / "a.svg").write_text(draw_pictures.mark(source) + "<svg/>")
    assert draw_pictures.stale() == []
    (tmp_path / "style.css").write_text("svg { color: red; }")
    assert draw_pictures.stale() == [source]


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.stem)
def test_a_picture_stands_by_itself(picture: Path) -> None:
    """In light and dark, with a title, without scripts and without anything from elsewhere."""
    text = picture.read_text()
    assert "prefers-color-scheme: dark" in text
    assert re.search(r"<title[^>]*>[^<]{10,}</title>", text)
    assert not re.search(r"<script|<foreignObject|@import|\son[a-z]+=", text)
    assert re.findall(r"https?://(?!www\.w3\.org/)[^\s\"<]+", text) == []


@pytest.mark.parametrize("german", sorted(FOLDER.glob("*.de.mmd")), ids=lambda german: german.stem)
def test_a_german_sequence_has_the_steps_of_the_english_one(german: Path) -> None:
    english = german.with_name(german.name.replace(".de.mmd", ".mmd"))
    assert steps(german.read_text()) == steps(english.read_text())


def steps(text: str) -> list[str]:
    """Who tells whom, without what."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and "accTitle" not in line]
    return [
        re.split(r": | as ", line)[0] if not line.startswith(("loop", "alt", "else")) else line[:4]
        for line in lines
    ]
