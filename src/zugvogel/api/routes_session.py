"""One's own session: log in, who am I, log out, a new password."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request

from zugvogel.api.auth import VIEWER, TheBackend, TheCaller, TheLimits, address_of, bearer_of, is_console
from zugvogel.domain.answers import CallerView, Done
from zugvogel.domain.requests import ChangePassword, Login
from zugvogel.domain.user import Caller, Session
from zugvogel.errors import Forbidden, Refused

router = APIRouter(tags=["session"])


@router.post("/session", status_code=201)
async def log_in(request: Login, http: Request, backend: TheBackend, limits: TheLimits) -> Session:
    """Begin a session with a user's password. Its `token` is a bearer on every host. Needs no bearer."""
    client = address_of(http)
    if request.client:
        if not is_console(http):
            raise Forbidden("only the console of this host may log in on behalf of an address", "leave client out")
        client = request.client
    async with limits.login(request.user, client):
        return await backend.login(request.user, request.password, client=client)


@router.get("/session", dependencies=[VIEWER])
async def who(caller: TheCaller) -> CallerView:
    """Whose bearer this is, and until when it is valid. `expires_at` null: until it is revoked."""
    return CallerView.of(caller)


@router.delete("/session", dependencies=[VIEWER])
async def log_out(http: Request, backend: TheBackend) -> Done:
    """End this session, on every host."""
    await backend.end_session(bearer_of(http))
    return Done()


@router.post("/session/password", dependencies=[VIEWER])
async def change_password(
    request: ChangePassword, http: Request, caller: TheCaller, backend: TheBackend, limits: TheLimits
) -> Session:
    """One's own password. All sessions of the user end, this one too; the answer is a new one."""
    async with limits.login(_user(caller), address_of(http)):
        return await backend.change_password(caller.user, request, client=address_of(http))


def _user(caller: Caller) -> str:
    if caller.kind != "user":
        raise Refused(f"{caller} has no password", "log in as a user: zv context login NAME --user USER")
    return caller.user
