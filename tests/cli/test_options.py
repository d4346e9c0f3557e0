from __future__ import annotations

import io
import sys

import pytest
import typer

from tests.cli.conftest import Zv
from zugvogel.cli import options


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"/hosts": ["host1", "host2", "db"], "/vms": ["host1", "web1"]}
    monkeypatch.setattr(options, "_names", lambda path, start: [n for n in names[path] if n.startswith(start)])


@pytest.mark.usefixtures("known")
def test_the_last_of_several_hosts_is_completed() -> None:
    assert options.complete_hosts("ho") == ["host1", "host2"]
    assert options.complete_hosts("host1,") == ["host1,host2", "host1,db"]
    assert options.complete_hosts("host1,db,h") == ["host1,db,host2"]


@pytest.mark.usefixtures("known")
def test_hosts_and_vms_are_completed() -> None:
    assert options.complete_subject("h") == ["host1", "host2"]


def test_names_come_repeated_or_with_commas() -> None:
    assert options.names_of(["a,b", " c ", ""]) == ["a", "b", "c"]


@pytest.mark.parametrize(("said", "cause"), [("n\n", "the answer was no"), ("", "nobody answered")])
def test_a_question_that_is_not_agreed_to_says_what_to_do(
    zv: Zv, monkeypatch: pytest.MonkeyPatch, said: str, cause: str
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(said))
    ran = zv("ha", "disable")
    last = ran.err.splitlines()[-1]
    assert ran.code == 1
    assert "zv: " in last
    assert cause in last
    assert "--yes" in last
    assert "Aborted" not in ran.err


def test_ctrl_c_at_a_question_ends_as_everywhere(zv: Zv, monkeypatch: pytest.MonkeyPatch) -> None:
    class Left(io.StringIO):
        def readline(self, size: int = -1, /) -> str:  # type: ignore[override]
            raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stdin", Left())
    assert zv("ha", "disable").code == options.INTERRUPTED


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("vm delete nobody", "there is no vm nobody"),
        ("vm discard nobody", "there is no vm nobody"),
        ("host remove host9", "there is no host host9"),
        ("host confirm-dead host9", "there is no host host9, and no vm was seen on it"),
        ("host confirm-dead host1", "host1 is live, so it may run vms"),
        ("cluster reform host9", "there is no host host9"),
        ("datastore remove nowhere", "there is no datastore nowhere"),
        ("user delete nobody", "there is no user nobody"),
    ],
)
def test_nobody_is_asked_about_what_is_refused_anyway(
    zv: Zv, monkeypatch: pytest.MonkeyPatch, words: str, told: str
) -> None:
    def asked(*_: object, **__: object) -> bool:
        raise AssertionError("it asks")

    monkeypatch.setattr(typer, "confirm", asked)
    ran = zv(*words.split())
    assert ran.code == 1
    assert told in ran.err
    assert "; see" in ran.err or "; cut its power first" in ran.err, "the next step"
