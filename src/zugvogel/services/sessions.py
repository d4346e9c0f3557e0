"""Sessions of users: signed bearers that every agent can check by its replica alone, without a write.

A session tells whose it is. It ends with its time, with a change or the deletion of its user, and by logging out.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from itsdangerous import BadSignature, TimestampSigner, URLSafeTimedSerializer

from zugvogel.domain.settings import SESSION_HOURS
from zugvogel.domain.user import EndedSession, Session, SessionKey, User
from zugvogel.errors import Conflict, Forbidden, SessionEnded, Unreachable
from zugvogel.ports.clock import Clock
from zugvogel.ports.registry import Registry
from zugvogel.services.inventory import ENDED_SESSIONS, SESSION_KEY, Inventory

PREFIX = "s."
AHEAD = timedelta(minutes=5)
"""How far the clock of the host that began a session may be ahead of this one's."""
LOG_IN = "log in again: zv context login NAME --user USER"


@dataclass(frozen=True, slots=True)
class Held:
    """What a session says. `ends_at` is by the setting of now where that is shorter than the one of its login;
    `latest_end` by the one of its login alone."""

    id: str
    user: User
    ends_at: datetime
    latest_end: datetime


class Sessions:
    def __init__(self, registry: Registry, inventory: Inventory, clock: Clock) -> None:
        self._registry = registry
        self._inventory = inventory
        self._clock = clock

    async def ensure_key(self) -> SessionKey:
        """The key in the registry; made by whoever needs it first. Writes nothing where there is one."""
        known = self._inventory.session_key()
        if known is not None:
            return known
        made = SessionKey(key=secrets.token_urlsafe(48), created_at=self._clock.now_iso())
        try:
            await self._inventory.put(SESSION_KEY, made, revision=0)
        except Conflict:
            return await self._read_key()
        return made

    async def _read_key(self) -> SessionKey:
        """Another host was quicker, and this one's replica has not followed yet."""
        entry = await self._registry.get(SESSION_KEY)
        if entry is None:
            raise Unreachable("the key of sessions is being made", "try again")
        return SessionKey.model_validate_json(entry.value)

    async def begin(self, user: User) -> Session:
        signed = self._signed(await self.ensure_key())
        hours = self._inventory.number(SESSION_HOURS)
        token = signed.dumps([user.name, secrets.token_hex(8), user.stamp(), hours])
        return Session(
            token=f"{PREFIX}{token}",
            user=user.name,
            access=user.access,
            expires_at=iso(self._now().replace(microsecond=0) + timedelta(hours=hours)),
        )

    def read(self, token: str) -> Held:
        """Raises SessionEnded for one of this cluster that is over, Forbidden for anything else."""
        key = self._inventory.session_key()
        try:
            if key is None:
                raise BadSignature("nobody has logged in yet")
            (name, session_id, stamp, hours), begun = self._signed(key).loads(
                token.removeprefix(PREFIX).encode(errors="replace"), return_timestamp=True
            )
        except BadSignature:
            raise Forbidden("the session is not known to this cluster", LOG_IN) from None
        ends_at = begun + timedelta(hours=min(hours, self._inventory.number(SESSION_HOURS)))
        now, user = self._now(), self._inventory.user(name)
        if now < begun - AHEAD:
            raise SessionEnded("this host's clock is far behind that of the host of the login", "set the clocks")
        if now >= ends_at:
            raise SessionEnded("the session's time is over", LOG_IN)
        if user is None or user.stamp() != stamp:
            raise SessionEnded(f"the session is over: user {name} was changed since its login", LOG_IN)
        if self._inventory.ended_session(session_id) is not None:
            raise SessionEnded(f"user {name} has logged out of this session", LOG_IN)
        return Held(session_id, user, ends_at, latest_end=begun + timedelta(hours=hours))

    async def end(self, token: str) -> None:
        """Known on every host once its replica has it. Raises Unreachable without the registry's majority."""
        held = self.read(token)
        now_s = self._now().timestamp()
        over = [e.id for e in self._inventory.ended_sessions() if e.ends_at_s < now_s]
        await self._inventory.delete(*(f"{ENDED_SESSIONS}{session_id}" for session_id in over))
        ended = EndedSession(id=held.id, user=held.user.name, ends_at_s=held.latest_end.timestamp())
        await self._inventory.put(f"{ENDED_SESSIONS}{held.id}", ended)

    def ended_of(self, user: str) -> list[str]:
        return [e.id for e in self._inventory.ended_sessions() if e.user == user]

    async def forget(self, session_ids: list[str]) -> None:
        """Of sessions that are over anyway."""
        await self._inventory.delete(*(f"{ENDED_SESSIONS}{session_id}" for session_id in session_ids))

    def _signed(self, key: SessionKey) -> URLSafeTimedSerializer:
        return URLSafeTimedSerializer(
            key.key,
            salt="zugvogel.session",
            signer=_ClockSigner,
            signer_kwargs={
                "digest_method": hashlib.sha256,
                "key_derivation": "hmac",
                "now": lambda: int(self._now().timestamp()),
            },
        )

    def _now(self) -> datetime:
        return datetime.fromisoformat(self._clock.now_iso())


class _ClockSigner(TimestampSigner):
    """By the agent's clock, which is a simulated one in the simulator."""

    def __init__(self, *args: Any, now: Callable[[], int], **more: Any) -> None:
        super().__init__(*args, **more)
        self._now = now

    def get_timestamp(self) -> int:
        return self._now()


def iso(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
