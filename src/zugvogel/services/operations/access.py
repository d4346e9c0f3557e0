"""Operations: who may, by which bearer; API tokens."""

from __future__ import annotations

import hashlib
import hmac
import secrets

from zugvogel.domain.cluster import Access, Token
from zugvogel.domain.requests import NewToken
from zugvogel.domain.user import Caller
from zugvogel.errors import Forbidden, NotFound, Unreachable
from zugvogel.ports.caller import asked_by
from zugvogel.services import sessions
from zugvogel.services.operations.last_admin import refuse_last_admin
from zugvogel.services.operations.users import UserOperations
from zugvogel.services.operations.world import World


class AccessOperations:
    """`tickets`: see `ConsoleOperations`, which makes them."""

    def __init__(self, world: World, users: UserOperations) -> None:
        self._w = world
        self._users = users
        self._console_token = f"console.{secrets.token_urlsafe(32)}"
        self.tickets: dict[str, str] = {}

    def console_token(self) -> str:
        """For the console of this host: another one with each start of its agent, and in its memory alone."""
        return self._console_token

    async def authenticate(self, token: str) -> Caller:
        """An API token, a user's session, a console ticket (once), or this agent's console."""
        if token and self.tickets.pop(token, None) is not None:
            return Caller(access=Access.OPERATOR, user="ticket", kind="service")
        if hmac.compare_digest(token.encode(errors="replace"), self._console_token.encode()):
            return Caller(access=Access.VIEWER, user="console", kind="service")
        if not self._w.inventory.is_loaded.is_set():
            raise Unreachable(
                f"the agent of {self._w.me} has not read the registry yet", "try again in a few seconds"
            )
        if token.startswith(sessions.PREFIX):
            return self._users.session_of(token)
        return self._token_holder(token)

    def _token_holder(self, token: str) -> Caller:
        token_id, _, secret = token.partition(".")
        known = self._w.inventory.token(token_id) if token_id and "/" not in token_id else None
        digest = hashlib.sha256(secret.encode(errors="replace")).hexdigest()
        if known is None or not hmac.compare_digest(known.secret_sha256, digest):
            raise Forbidden("the token is not known to this cluster", "see: zv context list")
        return Caller(access=known.access, user=known.id, kind="token")

    # tokens ----------------------------------------------------------------------------------------

    async def tokens(self) -> list[Token]:
        return [t.model_copy(update={"secret_sha256": ""}) for t in self._w.inventory.tokens()]

    async def new_token(self, request: NewToken) -> tuple[Token, str]:
        secret, token_id = secrets.token_urlsafe(32), secrets.token_hex(4)
        token = Token(
            id=token_id,
            access=request.access,
            secret_sha256=hashlib.sha256(secret.encode()).hexdigest(),
            description=request.description,
            created_at=self._w.clock.now_iso(),
        )
        await self._w.inventory.put(f"tokens/{token_id}", token, revision=0)
        told = f"a token for {request.access}s was created"
        self._w.events.emit("token.created", token_id, told, by=asked_by())
        return token.model_copy(update={"secret_sha256": ""}), f"{token_id}.{secret}"

    async def revoke_token(self, token_id: str) -> None:
        known = self._w.inventory.token(token_id)
        if known is None:
            raise NotFound(f"there is no token {token_id}", "see: zv token list")
        refuse_last_admin(self._w.inventory, token=token_id)
        await self._w.inventory.delete(f"tokens/{token_id}")
        self._w.events.emit("token.revoked", token_id, f"token {token_id} was revoked", by=asked_by())
