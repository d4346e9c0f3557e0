from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
import typer

from tests.cli.conftest import Served, Zv
from zugvogel.cli import context as contexts

PASSWORD = "correct horse"


@pytest.fixture
def zv(zv: Zv, served: Served) -> Iterator[Zv]:
    yield zv
    served.backend.held_users.clear()
    served.backend.sessions.clear()


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What comes on standard input, a line each."""
    lines: list[str] = []

    class Lines:
        def readline(self) -> str:
            return f"{lines.pop(0)}\n" if lines else ""

        def isatty(self) -> bool:
            return False

    monkeypatch.setattr(sys, "stdin", Lines())
    return lines


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What somebody answers at a terminal; the questions are taken away."""
    answers: list[str] = []

    def prompt(what: str, *, hide_input: bool, err: bool) -> str:
        assert hide_input
        assert err
        return answers.pop(0)

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(typer, "prompt", prompt)
    return answers


def add(zv: Zv, typed: list[str], name: str = "ada", access: str = "operator") -> None:
    typed.append(PASSWORD)
    ran = zv("user", "add", name, "--access", access, "--password-stdin")
    assert ran.code == 0, ran.err


def test_the_life_of_a_user(zv: Zv, typed: list[str], served: Served) -> None:
    typed.append(PASSWORD)
    made = zv("user", "add", "ada", "--access", "operator", "--password-stdin", "--json")
    assert made.json["access"] == "operator"
    assert served.backend.held_users["ada"].password_hash == PASSWORD
    typed.append("another one")
    assert zv("user", "set", "ada", "--access", "viewer", "--password-stdin").out == "ada is changed (viewer)\n"
    assert served.backend.held_users["ada"].password_hash == "another one"
    assert [user["name"] for user in zv("user", "list", "--json").json] == ["ada"]
    assert "viewer" in zv("user", "list").out
    assert zv("user", "delete", "ada", "--yes").code == 0
    assert "no users" in zv("user", "list").err


def test_a_password_is_asked_for_twice(zv: Zv, asked: list[str], served: Served) -> None:
    asked += [PASSWORD, "correct hors"]
    assert zv("user", "add", "ada", "--access", "viewer").code == 2
    assert served.backend.held_users == {}
    asked += [PASSWORD, PASSWORD]
    assert zv("user", "add", "ada", "--access", "viewer").code == 0
    asked += ["another one", "another one"]
    assert zv("user", "set", "ada", "--password").code == 0
    assert served.backend.held_users["ada"].password_hash == "another one"


def test_where_nobody_can_be_asked_the_way_out_is_told(zv: Zv, typed: list[str]) -> None:
    ran = zv("user", "add", "ada", "--access", "viewer")
    assert (ran.code, "--password-stdin" in ran.err) == (2, True)
    assert zv("user", "add", "ada", "--access", "viewer", "--password-stdin").code == 2


def test_a_password_is_never_an_argument(zv: Zv) -> None:
    assert zv("user", "set", "ada", "--password", "secret").code == 2
    assert zv("user", "set", "ada").code == 2


def test_a_login_takes_the_place_of_the_token(zv: Zv, typed: list[str], served: Served) -> None:
    add(zv, typed)
    added = zv("context", "add", "mine", "--url", served.url, "--ca", str(served.ca_file))
    assert "zv context login mine --user USER" in added.err
    assert "no token was given" in zv("vm", "list").err
    assert zv("context", "login", "mine", "--password-stdin").code == 2, "nobody has logged in here before"
    typed.append(PASSWORD)
    ran = zv("context", "login", "mine", "--user", "ada", "--password-stdin", "--json")
    assert (ran.json["user"], ran.json["access"]) == ("ada", "operator")
    assert "token" not in ran.json
    assert zv("vm", "reset", "web1").code == 0
    assert "yours is operator" in zv("user", "list").err
    assert zv("context", "show", "--json").json["user"] == "ada"
    assert {c["name"]: c["user"] for c in zv("context", "list", "--json").json} == {"mine": "ada", "test": ""}


def test_a_context_that_has_a_token_keeps_its_place(zv: Zv, typed: list[str]) -> None:
    add(zv, typed, access="viewer")
    typed.append("wrong")
    assert zv("context", "login", "test", "--user", "ada", "--password-stdin").code == 1
    assert contexts.named("test").token == "admin-token"
    typed.append(PASSWORD)
    assert zv("context", "login", "test", "--user", "ada", "--password-stdin").code == 0
    assert len(contexts.named("test").urls) == 2


def test_logging_out(zv: Zv, typed: list[str], served: Served) -> None:
    assert zv("context", "logout", "test").code == 1
    add(zv, typed)
    typed.append(PASSWORD)
    zv("context", "login", "test", "--user", "ada", "--password-stdin")
    assert zv("context", "logout", "test").code == 0
    assert served.backend.sessions == {}
    assert contexts.named("test").token == ""
    typed.append(PASSWORD)
    assert zv("context", "login", "test", "--password-stdin").code == 0, "who it was is known"


def test_ones_own_password(zv: Zv, typed: list[str], served: Served) -> None:
    refused = zv("user", "password", "--password-stdin")
    assert (refused.code, "no user" in refused.err) == (1, True)
    add(zv, typed)
    typed += [PASSWORD, PASSWORD, "another one"]
    zv("context", "login", "test", "--user", "ada", "--password-stdin")
    assert zv("user", "password", "--password-stdin").code == 0
    assert served.backend.held_users["ada"].password_hash == "another one"
    assert zv("vm", "list").code == 0, "the new session is kept"


def test_users_are_completed(zv: Zv, typed: list[str]) -> None:
    from zugvogel.cli.options import complete_user

    add(zv, typed)
    assert complete_user("a") == ["ada"]
    assert complete_user("b") == []
