"""Users of the API."""

from __future__ import annotations

from fastapi import APIRouter

from zugvogel.api.auth import ADMIN, TheBackend
from zugvogel.api.routes_storage import NamePath
from zugvogel.domain.answers import Done, UserView
from zugvogel.domain.requests import ChangeUser, NewUser

router = APIRouter(tags=["users"], dependencies=[ADMIN])


@router.get("/users")
async def users(backend: TheBackend) -> list[UserView]:
    """All users, by name."""
    return [UserView.of(user) for user in await backend.users()]


@router.post("/users", status_code=201)
async def new_user(request: NewUser, backend: TheBackend) -> UserView:
    """Add a user who logs in with a password."""
    return UserView.of(await backend.new_user(request))


@router.patch("/users/{name}")
async def change_user(name: NamePath, request: ChangeUser, backend: TheBackend) -> UserView:
    """Set password or role. The user's sessions end."""
    return UserView.of(await backend.change_user(name, request))


@router.delete("/users/{name}")
async def delete_user(name: NamePath, backend: TheBackend) -> Done:
    """Remove a user. The user's sessions end."""
    await backend.delete_user(name)
    return Done()
