"""How often somebody may fail: to log in, and with bearers. Counted in this agent's memory; what succeeds is free.

Logins are hashed slowly, so few are let in at once, and each is looked at again when its turn comes: a thousand
that are sent together are no more guesses than a thousand in a row.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from zugvogel.errors import Forbidden, TooManyRequests

LOGINS = RateLimitItemPerMinute(10, namespace="logins")
BEARERS = RateLimitItemPerMinute(60, namespace="bearers")
AT_ONCE = 2
WAITING = 30
"""Logins that may wait for their turn, from wherever they come."""


class Limits:
    """Of one agent."""

    def __init__(self) -> None:
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0

    @asynccontextmanager
    async def login(self, user: str, client: str) -> AsyncIterator[None]:
        """Around one try. Raises TooManyRequests for a user or an address with too many that failed; one that
        ends in Forbidden counts."""
        keys = [("user", user), ("client", client)]
        self._refuse(keys)
        if self._waiting >= WAITING:
            raise TooManyRequests("too many logins are being checked", "try again in a moment", retry_after_s=5)
        self._waiting += 1
        try:
            await self._turn.acquire()
        finally:
            self._waiting -= 1
        try:
            self._refuse(keys)
            yield
        except Forbidden:
            for key in keys:
                self._limiter.hit(LOGINS, *key)
            raise
        finally:
            self._turn.release()

    def wrong_bearer(self, client: str) -> None:
        """Counts it. Raises TooManyRequests beyond the limit. Right bearers from the same address are never kept
        out: many users may share it, and no number of guesses finds one."""
        if not self._limiter.hit(BEARERS, client):
            retry_after_s = self._wait_s(BEARERS, client)
            raise TooManyRequests(
                f"more than {BEARERS.amount} wrong tokens a minute came from this address",
                f"try again in {retry_after_s} s, with a valid one: zv context list",
                retry_after_s=retry_after_s,
            )

    def _refuse(self, keys: list[tuple[str, str]]) -> None:
        full = [key for key in keys if not self._limiter.test(LOGINS, *key)]
        if full:
            retry_after_s = max(self._wait_s(LOGINS, *key) for key in full)
            whose = "of this user" if full[0][0] == "user" else "from this address"
            raise TooManyRequests(
                f"{LOGINS.amount} logins {whose} failed within a minute",
                f"try again in {retry_after_s} s",
                retry_after_s=retry_after_s,
            )

    def _wait_s(self, limit: RateLimitItem, *key: str) -> int:
        """Until the first of them is a minute old."""
        return max(1, math.ceil(self._limiter.get_window_stats(limit, *key).reset_time - time.time()))
