"""The REST API of an agent. Any agent answers for the whole cluster."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.responses import PlainTextResponse

from zugvogel.api import (
    console,
    errors,
    routes_cluster,
    routes_fence,
    routes_ha,
    routes_storage,
    routes_tasks,
    routes_vms,
)
from zugvogel.api.auth import TheBackend
from zugvogel.api.body_limit import BodyLimit
from zugvogel.ports.backend import Backend

PREFIX = "/api/v1"


def create_app(backend: Backend, ca_pem: str = "") -> FastAPI:
    """`ca_pem`: the cluster CA's certificate, handed to anybody who asks (it is no secret)."""
    app = FastAPI(
        title="Zugvogel",
        version=version("zugvogel"),
        description="Live migration and high availability for plain QEMU/KVM hosts. "
        "Send `Authorization: Bearer <token>`. Work that takes long is answered with a task (202).",
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,
        redoc_url=None,
        responses=errors.RESPONSES,
        redirect_slashes=False,
    )
    app.state.backend = backend
    app.add_middleware(BodyLimit)
    errors.install(app)
    app.include_router(_open_routes(ca_pem), prefix=PREFIX)
    for part in (routes_cluster, routes_ha, routes_fence, routes_storage, routes_vms, routes_tasks, console):
        app.include_router(part.router, prefix=PREFIX)
    return app


def _open_routes(ca_pem: str) -> APIRouter:
    router = APIRouter(tags=["agent"])

    @router.get("/health")
    async def health(backend: TheBackend) -> dict[str, Any]:
        """This agent's own state. Needs no token."""
        return await backend.health()

    @router.get("/ca", response_class=PlainTextResponse)
    async def ca() -> str:
        """The cluster CA's certificate (PEM). Needs no token."""
        return ca_pem

    return router
