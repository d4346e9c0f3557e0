"""Operations: users of the API, their passwords and their sessions."""

from __future__ import annotations

from typing import Any

from zugvogel.domain.cluster import Access
from zugvogel.domain.requests import ChangePassword, ChangeUser, NewUser
from zugvogel.domain.user import Caller, Session, User
from zugvogel.errors import AlreadyExists, Conflict, Forbidden, InvalidInput, NotFound, Refused, Unreachable
from zugvogel.ports.caller import asked_by
from zugvogel.ports.passwords import Passwords
from zugvogel.services.operations.failed_logins import FailedLogins
from zugvogel.services.operations.last_admin import refuse_last_admin
from zugvogel.services.operations.world import World
from zugvogel.services.sessions import PREFIX, Sessions, iso

ENDED_KEPT = 100
"""Sessions of one user that are remembered as ended. A user who logs out of more logs out of all."""


class UserOperations:
    def __init__(self, world: World, passwords: Passwords) -> None:
        self._w = world
        self._passwords = passwords
        self._held_sessions = Sessions(world.registry, world.inventory, world.clock)
        self._failed_logins = FailedLogins(world.events, world.clock)

    # users -----------------------------------------------------------------------------------------

    async def users(self) -> list[User]:
        """Without the hashes of their passwords."""
        return [_shown(user) for user in self._w.inventory.users()]

    async def new_user(self, request: NewUser) -> User:
        """Makes the key of sessions too: from then on a login needs no write."""
        await self._held_sessions.ensure_key()
        now = self._w.clock.now_iso()
        user = User(
            name=request.name,
            access=request.access,
            password_hash=await self._passwords.hash(request.password),
            created_at=now,
            changed_at=now,
        )
        try:
            await self._w.inventory.put(_key(user.name), user, revision=0)
        except Conflict:
            raise AlreadyExists(f"there is a user {user.name} already", "see: zv user list") from None
        self._w.events.emit("user.created", user.name, f"{user.name} is a new {user.access}", by=asked_by())
        return _shown(user)

    async def change_user(self, name: str, request: ChangeUser) -> User:
        """Any change ends the user's sessions."""
        changed: dict[str, Any] = {}
        if request.access is not None:
            changed["access"] = request.access
        if request.password is not None:
            changed["password_hash"] = await self._passwords.hash(request.password)
        user, revision = await self._read_user(name)
        changed = {field: value for field, value in changed.items() if getattr(user, field) != value}
        if not changed:
            return _shown(user)
        if user.access is Access.ADMIN and "access" in changed:
            refuse_last_admin(self._w.inventory, user=name)
        return _shown(await self._write_user(user, revision, changed))

    async def delete_user(self, name: str) -> None:
        """Ends the user's sessions."""
        user, revision = await self._read_user(name)
        if user.access is Access.ADMIN:
            refuse_last_admin(self._w.inventory, user=name)
        await self._w.inventory.delete(_key(name), revision=revision)
        self._w.events.emit("user.deleted", name, f"user {name} was deleted", by=asked_by())

    async def _read_user(self, name: str) -> tuple[User, int]:
        """From a majority, so that nobody who was deleted comes back by a change."""
        entry = await self._w.registry.get(_key(name))
        if entry is None:
            raise NotFound(f"there is no user {name}", "see: zv user list")
        return User.model_validate_json(entry.value), entry.revision

    async def _write_user(self, user: User, revision: int, changed: dict[str, Any]) -> User:
        """Raises Conflict where somebody else changed the user meanwhile."""
        after = user.model_copy(update=changed | {"changed_at": self._w.clock.now_iso()})
        await self._w.inventory.put(_key(user.name), after, revision=revision)
        what = [f"is {after.access} now"] if "access" in changed else []
        what += ["has a new password"] if "password_hash" in changed else []
        told = f"{user.name} {' and '.join(what) or 'has logged out everywhere'}; its sessions are over"
        evidence = {"before": user.access, "access": after.access, "is_password_new": "password_hash" in changed}
        self._w.events.emit("user.changed", user.name, told, evidence=evidence, by=asked_by())
        return after

    # passwords and sessions ------------------------------------------------------------------------

    async def login(self, user: str, password: str, *, client: str = "") -> Session:
        """Raises Forbidden without telling which of both is wrong, after the same work for an unknown user."""
        if not self._w.inventory.is_loaded.is_set():
            raise Unreachable(
                f"the agent of {self._w.me} has not read the registry yet", "try again in a few seconds"
            )
        known = self._w.inventory.user(user)
        is_right = await self._passwords.verify(known.password_hash if known else self._passwords.nobody, password)
        if known is None or not is_right:
            self._failed_logins.note(known.name if known else "", client)
            raise Forbidden(
                "user or password is wrong", "an admin can set a new password: zv user set USER --password"
            )
        return await self._held_sessions.begin(known)

    def session_of(self, token: str) -> Caller:
        """Raises SessionEnded, or Forbidden where it is none of this cluster."""
        held = self._held_sessions.read(token)
        return Caller(access=held.user.access, user=held.user.name, kind="user", expires_at=iso(held.ends_at))

    async def change_password(self, user: str, request: ChangePassword, *, client: str = "") -> Session:
        """One's own. All sessions of the user end; the answer is a new one."""
        if request.old == request.new:
            raise InvalidInput("the new password is the old one", "choose another one")
        known, revision = await self._read_user(user)
        if not await self._passwords.verify(known.password_hash, request.old):
            self._failed_logins.note(user, client)
            raise Forbidden("the old password is wrong", "an admin can set a new one: zv user set USER --password")
        hashed = await self._passwords.hash(request.new)
        return await self._held_sessions.begin(await self._write_user(known, revision, {"password_hash": hashed}))

    async def end_session(self, token: str) -> None:
        """Logging out. Raises Unreachable without the registry's majority: the session lives on then."""
        if not token.startswith(PREFIX):
            raise Refused("only a user's session can be ended", "an API token is revoked: zv token revoke ID")
        user = self.session_of(token).user
        ended = self._held_sessions.ended_of(user)
        if len(ended) < ENDED_KEPT:
            await self._held_sessions.end(token)
            return
        await self._write_user(*await self._read_user(user), {})
        await self._held_sessions.forget(ended)


def _key(name: str) -> str:
    return f"users/{name}"


def _shown(user: User) -> User:
    return user.model_copy(update={"password_hash": ""})
