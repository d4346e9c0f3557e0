"""Passwords are kept as slow hashes. Both calls take a good part of a second of a core."""

from __future__ import annotations

from typing import Protocol


class Passwords(Protocol):
    @property
    def nobody(self) -> str:
        """A hash that no password matches. It is verified for users who do not exist, with the same work, so that
        the time of an answer does not tell who does."""

    async def hash(self, password: str) -> str:
        """With a new salt each time."""

    async def verify(self, hashed: str, password: str) -> bool: ...
