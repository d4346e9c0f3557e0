"""Passwords as people give them: asked for without echo, or from standard input; never on the command line, which
everybody on the machine sees."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from zugvogel.errors import InvalidInput

PasswordStdin = Annotated[
    bool,
    typer.Option("--password-stdin", help="Read it from standard input, one line, instead of asking."),
]


def known(what: str, *, is_stdin: bool) -> str:
    """One that exists already."""
    return _line() if is_stdin else _asked(what)


def new(what: str, *, is_stdin: bool) -> str:
    """Asked for twice. Raises InvalidInput when they differ."""
    if is_stdin:
        return _line()
    first = _asked(what)
    if _asked("The same again") != first:
        raise InvalidInput("the two passwords differ", "try again")
    return first


def _line() -> str:
    line = sys.stdin.readline().rstrip("\r\n")
    if not line:
        raise InvalidInput("there is no password on standard input", "write it there, one line")
    return line


def _asked(what: str) -> str:
    if not sys.stdin.isatty():
        raise InvalidInput("nobody can be asked for a password here", "use --password-stdin")
    answer: str = typer.prompt(what, hide_input=True, err=True)
    return answer
