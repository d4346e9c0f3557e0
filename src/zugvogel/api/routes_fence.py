"""Power fences of hosts. Secrets come in and never go out."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from zugvogel.api.auth import ADMIN, TheBackend
from zugvogel.core.fencing import shown
from zugvogel.domain.answers import Done, FenceView
from zugvogel.domain.base import HOST_PATTERN
from zugvogel.domain.host import FenceConfig
from zugvogel.domain.requests import SetFence
from zugvogel.domain.task import Task
from zugvogel.errors import NotFound

router = APIRouter(prefix="/hosts/{name}/fence", dependencies=[ADMIN], tags=["hosts"])

HostPath = Annotated[str, Path(pattern=HOST_PATTERN)]


def _view(host: str, config: FenceConfig) -> FenceView:
    return FenceView(host=host, agent=config.agent, parameters=shown(config))


@router.get("")
async def fence(name: HostPath, backend: TheBackend) -> FenceView:
    """The device that can cut a host's power."""
    config = await backend.fence_config(name)
    if config is None:
        raise NotFound(
            f"no device is configured that could cut the power of {name}",
            f"zv host fence-config {name} --agent fence_ipmilan --parameter ip=ADDRESS",
        )
    return _view(name, config)


@router.put("")
async def set_fence(name: HostPath, request: SetFence, backend: TheBackend) -> FenceView:
    """Configure it, in place of the one before."""
    return _view(name, await backend.set_fence(name, request))


@router.delete("")
async def remove_fence(name: HostPath, backend: TheBackend) -> Done:
    """Forget it."""
    await backend.remove_fence(name)
    return Done()


@router.post("/test", status_code=202)
async def test_fence(name: HostPath, backend: TheBackend) -> Task:
    """Have every primary ask the device for the state of the power. Nothing is switched."""
    return await backend.test_fence(name)
