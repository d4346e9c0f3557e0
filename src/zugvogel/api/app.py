"""The REST API of an agent. Any agent answers for the whole cluster."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import APIRouter, FastAPI
from fastapi.responses import PlainTextResponse

from zugvogel.api import (
    console,
    errors,
    openapi,
    routes_cluster,
    routes_fence,
    routes_ha,
    routes_health,
    routes_metrics,
    routes_session,
    routes_storage,
    routes_tasks,
    routes_users,
    routes_vms,
    routes_watch,
)
from zugvogel.api.auth import TheBackend
from zugvogel.api.body_limit import BodyLimit
from zugvogel.api.limiting import Limits
from zugvogel.api.loop_lag import LoopLag
from zugvogel.api.metrics import Exposition
from zugvogel.api.queries import KNOWN_QUERY
from zugvogel.api.request_log import RequestLog
from zugvogel.api.watching import Watching
from zugvogel.domain.answers import Health
from zugvogel.ports.backend import Backend

PREFIX = "/api/v1"


def create_app(backend: Backend, ca_pem: str = "") -> FastAPI:
    """`ca_pem`: the cluster CA's certificate, handed to anybody who asks (it is no secret)."""
    app = FastAPI(
        title="Zugvogel",
        version=version("zugvogel"),
        description=openapi.ABOUT,
        openapi_tags=openapi.TAGS,
        generate_unique_id_function=openapi.operation_id,
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        dependencies=[KNOWN_QUERY],
        lifespan=_measured,
    )
    app.state.backend = backend
    app.state.limits = Limits()
    app.state.watching, app.state.exposition, app.state.lag = Watching(backend), Exposition(), LoopLag()
    app.add_middleware(BodyLimit)
    app.add_middleware(RequestLog)
    errors.install(app)
    openapi.install(app)
    app.include_router(_open_routes(ca_pem), prefix=PREFIX)
    for part in (
        routes_cluster,
        routes_ha,
        routes_fence,
        routes_storage,
        routes_vms,
        routes_tasks,
        routes_session,
        routes_users,
        routes_watch,
        routes_health,
        console,
    ):
        app.include_router(part.router, prefix=PREFIX)
    app.include_router(routes_metrics.router)
    return app


@asynccontextmanager
async def _measured(app: FastAPI) -> AsyncIterator[None]:
    """While the API serves, the lag of its loop is measured."""
    measuring = asyncio.create_task(app.state.lag.run())
    try:
        yield
    finally:
        measuring.cancel()


def _open_routes(ca_pem: str) -> APIRouter:
    router = APIRouter(tags=["agent"])

    @router.get("/health")
    async def health(backend: TheBackend) -> Health:
        """This agent's own state. Needs no token."""
        return Health.model_validate(await backend.health())

    @router.get("/ca", response_class=PlainTextResponse)
    async def ca() -> str:
        """The cluster CA's certificate (PEM). Needs no token."""
        return ca_pem

    return router
