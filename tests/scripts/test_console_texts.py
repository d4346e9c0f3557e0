"""scripts/console_texts.py: what is collected, kept, and found wrong."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from babel.messages.pofile import read_po

SCRIPT = Path(__file__).parents[2] / "scripts/console_texts.py"

TEMPLATE = """\
<h1>{{ _("Log in") }}</h1>{{ ngettext("%(count)s host", "%(count)s hosts", 2) }}
{% call ui.dialog("x", _("Really?"), "/x", _("Do it")) %}{{ _("%(vm)s is lost", vm="x") }}{% endcall %}
"""
PYTHON = """\
told = language.text("It began.")
many = language.texts("%(count)s vm", "%(count)s vms", 3)
row = marked("host dead")
other = f("not a text")
"""


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Over a console of its own."""
    spec = importlib.util.spec_from_file_location("console_texts", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates/page.html").write_text(TEMPLATE)
    (tmp_path / "page.py").write_text(PYTHON)
    monkeypatch.setattr(module, "CONSOLE", tmp_path)
    return module


def po(tmp_path: Path) -> Path:
    return tmp_path / "locale/de/console.po"


def translate(tmp_path: Path, **texts: str) -> None:
    """Each text without a translation: by what its first word is, else as it is."""
    lines = []
    for block in po(tmp_path).read_text().split("\n\n"):
        said = re.search(r'^msgid "(.+)"', block, re.M)
        if said:
            block = block.replace('msgstr ""', f'msgstr "{texts.get(said[1].split()[0], said[1])}"')
            block = block.replace('[0] ""', f'[0] "{said[1]}"').replace('[1] ""', f'[1] "{said[1]}e"')
        lines.append(block)
    po(tmp_path).write_text("\n\n".join(lines))


def test_all_texts_are_collected(script: ModuleType) -> None:
    ids = {message.id for message in script.texts() if message.id}
    assert ids == {
        "Log in",
        ("%(count)s host", "%(count)s hosts"),
        "Really?",
        "Do it",
        "%(vm)s is lost",
        "It began.",
        ("%(count)s vm", "%(count)s vms"),
        "host dead",
    }


def test_new_ones_wait_and_what_was_translated_stays(script: ModuleType, tmp_path: Path) -> None:
    assert script.main([]) == 0
    assert script.main(["--check"]) == 1
    translate(tmp_path, Log="Anmelden")
    assert script.main(["--check"]) == 0
    (tmp_path / "page.py").write_text('language.text("Something new")')
    script.main([])
    with po(tmp_path).open("rb") as file:
        kept = read_po(file, locale="de")
    assert kept["Log in"].string == "Anmelden"
    assert kept["Something new"].string == ""
    assert "host dead" not in kept, "no page uses it any more"


def test_writing_twice_changes_nothing(script: ModuleType, tmp_path: Path) -> None:
    script.main([])
    translate(tmp_path)
    script.main([])
    first = po(tmp_path).read_bytes()
    script.main([])
    assert po(tmp_path).read_bytes() == first


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        ('msgstr "Log in"', 'msgstr ""', "not translated: 'Log in'"),
        ('msgstr "%(vm)s is lost"', 'msgstr "%(wm)s weg"', "other values than in English: '%(wm)s weg'"),
        ('msgid "Do it"', 'msgid "Do that"', "not translated: 'Do it'"),
        ('msgid "Do it"', 'msgid "Do that"', "no page uses: 'Do that'"),
        ('msgstr[1] "%(count)s hoste"', 'msgstr[1] ""', "not translated: '%(count)s host'"),
        ('msgid "host dead"', '#, fuzzy\nmsgid "host dead"', "not translated: 'host dead'"),
    ],
)
def test_what_is_wrong_is_named(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], before: str, after: str, fault: str
) -> None:
    script.main([])
    translate(tmp_path)
    text = po(tmp_path).read_text()
    assert before in text, text
    po(tmp_path).write_text(text.replace(before, after))
    capsys.readouterr()
    assert script.main(["--check"]) == 1
    assert fault in capsys.readouterr().out


def test_a_check_writes_nothing(script: ModuleType, tmp_path: Path) -> None:
    script.main(["--check"])
    assert not po(tmp_path).exists()


def test_names_of_the_text_function_are_all_known(script: ModuleType) -> None:
    """Both sides of the console's own i18n, so that no text goes past the script."""
    from zugvogel.console import i18n

    assert {"text", "texts", "marked"} <= set(script.PYTHON_WORDS)
    assert all(hasattr(i18n.Language, name) or hasattr(i18n, name) for name in ("text", "texts", "marked"))
