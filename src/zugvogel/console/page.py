"""A page: a path, a template, and a view of what is known. Blocks of the template that are named ``live_...`` are
kept up to date in the browser; a page needs to do nothing for it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import QueryParams
from starlette.requests import HTTPConnection

from zugvogel.client.transport import AsyncTransport
from zugvogel.console.i18n import Language, marked
from zugvogel.console.mirror import Mirror
from zugvogel.console.sessions import Person
from zugvogel.domain.cluster import Access
from zugvogel.errors import NotFound

NOT_IN_NAMES = frozenset("/\\?#%")

Variables = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Look:
    """One person's look at one page. `api` asks with that person's rights. `keep`: whatever the view wants to
    have again at the next round of the same look."""

    mirror: Mirror
    person: Person
    api: AsyncTransport
    language: Language
    path: Mapping[str, str]
    query: QueryParams
    keep: dict[str, Any] = field(default_factory=dict)

    async def now_and_then(self, name: str, every_s: float, ask: Callable[[], Awaitable[Any]]) -> Any:
        """What `ask` answered last; asked anew after `every_s`. For what the watch does not tell."""
        at, answer = self.keep.get(name, (None, None))
        if at is None or time.monotonic() - at >= every_s:
            answer = await ask()
            self.keep[name] = (time.monotonic(), answer)
        return answer


@dataclass(frozen=True, slots=True)
class Page:
    """`path` as Starlette writes it (``/hosts/{name}``). `view` makes the template's variables; raises NotFound
    where there is no such thing. `every_s`: looked at again after that time even if the watch told nothing new; a
    view that knows better says so by a variable of that name. `is_personal`: its live blocks differ between people
    of the same role."""

    path: str
    template: str
    view: Callable[[Look], Awaitable[Variables]]
    needs: Access = Access.VIEWER
    every_s: float | None = None
    is_personal: bool = False


def path_values(connection: HTTPConnection) -> dict[str, str]:
    """What stands for the names in a page's path. They become parts of the API's paths, and what could end such a
    part is in no name: raises NotFound."""
    found = {name: str(value) for name, value in connection.path_params.items()}
    if any(not each.isprintable() or set(each) & NOT_IN_NAMES or set(each) <= {"."} for each in found.values()):
        raise NotFound(marked("there is no such page"))
    return found
