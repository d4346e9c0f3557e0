"""Query parameters that an operation does not know are errors, as unknown fields of a body are: a filter that is
misspelt would be none at all."""

from __future__ import annotations

from difflib import get_close_matches

from fastapi import Depends
from fastapi.routing import APIRoute
from starlette.requests import HTTPConnection

from zugvogel.errors import InvalidInput


async def _refuse_unknown(connection: HTTPConnection) -> None:
    route = connection.scope.get("route")
    if not connection.query_params or not isinstance(route, APIRoute):
        return
    known = [field.alias for field in route.dependant.query_params]
    for name in connection.query_params:
        if name not in known:
            near = get_close_matches(name, known, 1)
            step = f"is {near[0]} meant?" if near else f"it takes: {', '.join(known) or 'none'}"
            raise InvalidInput(f"{connection.url.path} takes no parameter {name!r}", step)


KNOWN_QUERY = Depends(_refuse_unknown)
