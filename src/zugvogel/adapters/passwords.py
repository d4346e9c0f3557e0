"""Passwords by Argon2id, off the event loop: heartbeats go on meanwhile."""

from __future__ import annotations

import asyncio
import base64
import secrets
import unicodedata
from collections.abc import Callable
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

T = TypeVar("T")

AT_ONCE = 2
"""Each takes 64 MiB of memory and a core for the time of it."""


class ArgonPasswords:
    """`zugvogel.ports.passwords.Passwords`. The same signs are the same password, however encoded (NFKC)."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher()
        self._free = asyncio.Semaphore(AT_ONCE)
        self.nobody = _random_hash(self._hasher)

    async def hash(self, password: str) -> str:
        return await self._beside(lambda: self._hasher.hash(_normal(password)))

    async def verify(self, hashed: str, password: str) -> bool:
        return await self._beside(lambda: self._verify(hashed, _normal(password)))

    def _verify(self, hashed: str, password: str) -> bool:
        try:
            return self._hasher.verify(hashed, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _beside(self, work: Callable[[], T]) -> T:
        async with self._free:
            return await asyncio.to_thread(work)


def _normal(password: str) -> str:
    return unicodedata.normalize("NFKC", password)


def _random_hash(hasher: PasswordHasher) -> str:
    """A hash of nothing: its parameters cost as much to verify as a real one's."""
    cost = f"m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
    salt, digest = (_unpadded(secrets.token_bytes(size)) for size in (hasher.salt_len, hasher.hash_len))
    return f"$argon2id$v=19${cost}${salt}${digest}"


def _unpadded(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")
