"""Failed logins become events, few of them: whoever guesses passwords must not push others out of the log."""

from __future__ import annotations

from dataclasses import dataclass

from zugvogel.domain.task import Severity
from zugvogel.ports.clock import Clock
from zugvogel.services.events import EventLog

WINDOW_S = 3600.0
UNKNOWN = "unknown"
"""All users that do not exist are one: their names are the guesser's, and may be a password in the wrong field."""


@dataclass(slots=True)
class _Count:
    since_s: float
    count: int = 0


class FailedLogins:
    """Told are the 1st, 10th, 100th ... failure of a user within an hour from the first, as this host saw them."""

    def __init__(self, events: EventLog, clock: Clock) -> None:
        self._events = events
        self._clock = clock
        self._counts: dict[str, _Count] = {}

    def note(self, user: str, client: str) -> None:
        """`user` empty: there is none of that name. `client`: the address it came from."""
        now_s = self._clock.monotonic()
        held = self._counts.get(user)
        if held is None or now_s - held.since_s >= WINDOW_S:
            held = self._counts[user] = _Count(now_s)
        held.count += 1
        if str(held.count).strip("0") == "1":
            self._tell(user, held.count, client)

    def _tell(self, user: str, count: int, client: str) -> None:
        whom = f"user {user}" if user else "users that do not exist"
        times = "a login failed" if count == 1 else f"{count} logins failed within an hour"
        self._events.emit(
            "user.login-failed",
            user or UNKNOWN,
            f"{times}: {whom}" + (f", the last one from {client}" if client else ""),
            severity=Severity.WARNING,
            evidence={"count": count, "client": client, "is_known": bool(user)},
        )
