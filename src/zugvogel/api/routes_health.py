"""Whether this agent lives, and whether it can do its part: for load balancers and probes. No token is needed."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from zugvogel.api.auth import TheBackend
from zugvogel.domain.answers import Alive
from zugvogel.domain.figures import Readiness

router = APIRouter(prefix="/health", tags=["agent"])

UNREADY: dict[int | str, dict[str, Any]] = {
    503: {"model": Readiness, "description": "It cannot do its part; `causes` says why."}
}


@router.get("/live")
async def alive() -> Alive:
    """The agent's loop runs; nothing else is said. Needs no token."""
    return Alive()


@router.get("/ready", responses=UNREADY)
async def ready(backend: TheBackend, response: Response) -> Readiness:
    """200: it has read the registry, beats on every datastore, and hears a primary. Else 503 with the causes. The
    API answers all the same. Needs no token."""
    found = await backend.readiness()
    response.status_code = 200 if found.is_ready else 503
    response.headers["Cache-Control"] = "no-store"
    return found
