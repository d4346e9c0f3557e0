"""What people do: a form becomes one call of the API with their own rights, and the answer one short message."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from zugvogel.client.transport import AsyncTransport
from zugvogel.console.i18n import Language
from zugvogel.console.sessions import Person
from zugvogel.domain.cluster import Access


@dataclass(frozen=True, slots=True)
class Call:
    """`form`: what was filled in, the last value of each field; `lists`: all values of each. Empty texts count as
    not given."""

    api: AsyncTransport
    person: Person
    language: Language
    path: Mapping[str, str]
    form: Mapping[str, str]
    lists: Mapping[str, list[str]]

    def given(self, *names: str) -> dict[str, Any]:
        """Those of the fields that were filled in, by name."""
        return {name: self.form[name] for name in names if self.form.get(name)}


@dataclass(frozen=True, slots=True)
class Told:
    """`message` for the person. `task`: id of the task that began. `goto`: a page to be on next; the message is
    not shown then. `secret`: shown once, to be copied. `session`: the person's new token; the old one ended."""

    message: str = ""
    task: str = ""
    goto: str = ""
    secret: str = ""
    session: str = ""


@dataclass(frozen=True, slots=True)
class Action:
    """`path` as Starlette writes it, asked by POST. `perform` raises what the API answers."""

    path: str
    needs: Access
    perform: Callable[[Call], Awaitable[Told]]
