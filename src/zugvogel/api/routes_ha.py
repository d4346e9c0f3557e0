"""High availability: its state, on and off, what a failure would do, and why things are as they are."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query

from zugvogel.api.auth import ADMIN, VIEWER, TheBackend
from zugvogel.api.routes_storage import NamePath
from zugvogel.domain.answers import HaView
from zugvogel.domain.base import HostName
from zugvogel.domain.ha import Explanation, FailoverPlan

router = APIRouter(tags=["high availability"])

MAX_HOSTS = 64


@router.get("/ha", dependencies=[VIEWER])
async def ha(backend: TheBackend) -> HaView:
    """Whether it is enabled, who judges, what room is kept free, what protects vms, what is being restarted."""
    return HaView.of(await backend.ha_status())


@router.post("/ha/enable", dependencies=[ADMIN])
async def enable_ha(backend: TheBackend) -> HaView:
    """Restart vms of failed hosts from now on, and run isolation responses. Tells what protection is missing."""
    return HaView.of(await backend.enable_ha())


@router.post("/ha/disable", dependencies=[ADMIN])
async def disable_ha(backend: TheBackend) -> HaView:
    """Restart nothing, freeze nothing, run no isolation response. Hosts are still judged."""
    return HaView.of(await backend.disable_ha())


@router.get("/ha/plan", dependencies=[VIEWER])
async def ha_plan(
    fail: Annotated[list[HostName], Query(min_length=1, max_length=MAX_HOSTS)], backend: TheBackend
) -> FailoverPlan:
    """Who would restart where if all hosts named by `fail` failed now. Nothing is touched."""
    return await backend.ha_plan(fail)


@router.get("/ha/explain/{subject}", dependencies=[VIEWER])
async def explain(
    subject: NamePath, backend: TheBackend, kind: Annotated[Literal["host", "vm"] | None, Query()] = None
) -> Explanation:
    """Why a host is judged as it is, or why a vm runs, waits or stays down. A host comes first where a vm has the
    same name; `kind` chooses."""
    return await backend.explain(subject, kind)
