"""Who may do what: sessions, users, API tokens; and the agent itself."""

from __future__ import annotations

from zugvogel.client._async.calls import AsyncCalls
from zugvogel.domain.answers import Alive, CallerView, Done, Health, TokenView, UserView
from zugvogel.domain.figures import Readiness
from zugvogel.domain.requests import ChangePassword, ChangeUser, Login, NewToken, NewUser
from zugvogel.domain.user import Session


class AsyncAccessCalls(AsyncCalls):
    async def log_in(self, request: Login) -> Session:
        """Begin a session with a user's password. Needs no bearer; its `token` is one for a further client."""
        return await self._post(Session, "/session", body=request)

    async def who(self) -> CallerView:
        """Whose bearer this client has, and until when it is valid."""
        return await self._get(CallerView, "/session")

    async def log_out(self) -> Done:
        """End this session, on every host."""
        return await self._delete(Done, "/session")

    async def change_password(self, request: ChangePassword) -> Session:
        """One's own password. All sessions of the user end, this one too; the answer is a new one."""
        return await self._post(Session, "/session/password", body=request)

    async def users(self) -> list[UserView]:
        """All users, by name."""
        return await self._get(list[UserView], "/users")

    async def new_user(self, request: NewUser) -> UserView:
        """Add a user who logs in with a password."""
        return await self._post(UserView, "/users", body=request)

    async def change_user(self, name: str, request: ChangeUser) -> UserView:
        """Set password or role. The user's sessions end."""
        return await self._patch(UserView, "/users/{name}", name, body=request)

    async def delete_user(self, name: str) -> Done:
        """Remove a user. The user's sessions end."""
        return await self._delete(Done, "/users/{name}", name)

    async def tokens(self) -> list[TokenView]:
        """API tokens, without their secrets."""
        return await self._get(list[TokenView], "/tokens")

    async def new_token(self, request: NewToken) -> TokenView:
        """Make a token. Its text is shown only in this answer."""
        return await self._post(TokenView, "/tokens", body=request)

    async def revoke_token(self, token_id: str) -> Done:
        """End a token's validity."""
        return await self._delete(Done, "/tokens/{token_id}", token_id)

    async def health(self) -> Health:
        """The state of the agent that answers. Needs no bearer."""
        return await self._get(Health, "/health")

    async def alive(self) -> Alive:
        """The loop of the agent that answers runs; nothing else is said. Needs no bearer."""
        return await self._get(Alive, "/health/live")

    async def ready(self) -> Readiness:
        """Whether the agent that answers can do its part, else why not. Needs no bearer."""
        return await self._get(Readiness, "/health/ready", also=(503,))

    async def metrics(self) -> str:
        """Figures of the agent that answers, for Prometheus."""
        return await self._get(str, "/metrics", prefix="")

    async def ca(self) -> str:
        """The cluster CA's certificate (PEM). Needs no bearer."""
        return await self._get(str, "/ca")
