"""Cluster, hosts, joining, tokens, settings."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from zugvogel.api.auth import ADMIN, VIEWER, TheBackend
from zugvogel.api.views import baseline_view, setting_view
from zugvogel.domain.answers import BaselineView, Done, HostView, JoinTokenView, RolesView, SettingView, TokenView
from zugvogel.domain.base import HOST_PATTERN
from zugvogel.domain.cluster import Cluster
from zugvogel.domain.requests import (
    ChangeHost,
    JoinAnswer,
    JoinRequest,
    Maintenance,
    NewToken,
    ReformRegistry,
    SetBaseline,
    SetSetting,
)
from zugvogel.domain.task import Task

router = APIRouter()

HostPath = Annotated[str, Path(pattern=HOST_PATTERN)]
IdPath = Annotated[str, Path(pattern=r"^[A-Za-z0-9._-]{1,80}$")]


@router.get("/cluster", dependencies=[VIEWER], tags=["cluster"])
async def cluster(backend: TheBackend) -> Cluster:
    """The cluster's own record."""
    return await backend.cluster()


@router.get("/cluster/baseline", dependencies=[VIEWER], tags=["cluster"])
async def baseline(backend: TheBackend) -> BaselineView:
    """CPU model of the cluster and what stands against higher ones."""
    return baseline_view(await backend.baseline())


@router.put("/cluster/baseline", dependencies=[ADMIN], tags=["cluster"])
async def set_baseline(request: SetBaseline, backend: TheBackend) -> BaselineView:
    """Set the CPU model that new vms get."""
    return baseline_view(await backend.set_baseline(request.model))


@router.get("/hosts", dependencies=[VIEWER], tags=["hosts"])
async def hosts(backend: TheBackend) -> list[HostView]:
    """All hosts with their verdicts."""
    return [HostView.of(status) for status in await backend.hosts()]


@router.get("/hosts/{name}", dependencies=[VIEWER], tags=["hosts"])
async def host(name: HostPath, backend: TheBackend) -> HostView:
    """One host."""
    return HostView.of(await backend.host(name))


@router.delete("/hosts/{name}", dependencies=[ADMIN], tags=["hosts"])
async def remove_host(name: HostPath, backend: TheBackend) -> Done:
    """Forget a host that is gone for good."""
    await backend.remove_host(name)
    return Done()


@router.patch("/hosts/{name}", dependencies=[ADMIN], tags=["hosts"])
async def change_host(name: HostPath, request: ChangeHost, backend: TheBackend) -> HostView:
    """Change what is known of a host."""
    return HostView.of(await backend.change_host(name, request))


@router.post("/hosts/{name}/maintenance", status_code=202, dependencies=[ADMIN], tags=["hosts"])
async def maintain_host(name: HostPath, request: Maintenance, backend: TheBackend) -> Task:
    """Into maintenance, which empties it, or out of it."""
    return await backend.maintain_host(name, request)


@router.post("/cluster/reconfigure", dependencies=[ADMIN], tags=["cluster"])
async def reconfigure(backend: TheBackend) -> RolesView:
    """Give the roles of primary and secondary out anew, at random."""
    return RolesView(changed=await backend.reconfigure_roles())


@router.post("/cluster/reform", status_code=202, dependencies=[ADMIN], tags=["cluster"])
async def reform(request: ReformRegistry, backend: TheBackend) -> Done:
    """Form the registry anew from one host's data, at the price of what others had newer."""
    await backend.reform_registry(request.host)
    return Done()


@router.post("/hosts/{name}/confirm-dead", status_code=202, dependencies=[ADMIN], tags=["hosts"])
async def confirm_dead(name: HostPath, backend: TheBackend) -> Task:
    """Vouch that a failed host runs nothing any more, so that its vms may start elsewhere."""
    return await backend.confirm_dead(name)


@router.post("/join-tokens", status_code=201, dependencies=[ADMIN], tags=["hosts"])
async def new_join_token(backend: TheBackend) -> JoinTokenView:
    """A one-time token for `zv host join`."""
    return JoinTokenView(token=await backend.new_join_token())


@router.post("/join", tags=["hosts"])
async def join(request: JoinRequest, backend: TheBackend) -> JoinAnswer:
    """Add a host. Needs no bearer token: the one-time token in the body is the right to join."""
    return await backend.join(request)


@router.get("/tokens", dependencies=[ADMIN], tags=["tokens"])
async def tokens(backend: TheBackend) -> list[TokenView]:
    """API tokens, without their secrets."""
    return [TokenView.of(token) for token in await backend.tokens()]


@router.post("/tokens", status_code=201, dependencies=[ADMIN], tags=["tokens"])
async def new_token(request: NewToken, backend: TheBackend) -> TokenView:
    """Make a token. Its text is shown only in this answer."""
    token, text = await backend.new_token(request)
    return TokenView.of(token, text)


@router.delete("/tokens/{token_id}", dependencies=[ADMIN], tags=["tokens"])
async def revoke_token(token_id: IdPath, backend: TheBackend) -> Done:
    """End a token's validity."""
    await backend.revoke_token(token_id)
    return Done()


@router.get("/settings", dependencies=[VIEWER], tags=["settings"])
async def settings(backend: TheBackend) -> list[SettingView]:
    """All settings with value, default, unit, bounds and reason."""
    return [setting_view(held) for held in await backend.settings()]


@router.put("/settings/{name}", dependencies=[ADMIN], tags=["settings"])
async def set_setting(name: IdPath, request: SetSetting, backend: TheBackend) -> SettingView:
    """Change a setting for the whole cluster."""
    return setting_view(await backend.set_setting(name, request.value))
