"""`GET /metrics`: this agent's figures for Prometheus."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse, Response

from zugvogel.api.auth import VIEWER, TheBackend
from zugvogel.api.metrics import Seen

router = APIRouter(tags=["agent"])

_TEXT = {"schema": {"type": "string"}}
EXPOSITION: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "In the format of Prometheus or of OpenMetrics, as asked for.",
        "content": {"text/plain": _TEXT, "application/openmetrics-text": _TEXT},
    }
}


@router.get("/metrics", dependencies=[VIEWER], response_class=PlainTextResponse, responses=EXPOSITION)
async def metrics(request: Request, backend: TheBackend) -> Response:
    """This agent's figures for Prometheus."""
    state = request.app.state
    seen = Seen(await backend.figures(), len(state.watching.watchers), state.lag.largest_s())
    text, content_type = state.exposition.text(seen, request.headers.get("accept", ""))
    return Response(text, headers={"Content-Type": content_type, "Cache-Control": "no-store"})
