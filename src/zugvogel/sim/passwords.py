"""Passwords of a simulated cluster: no time passes over them, and nobody is kept out by them."""

from __future__ import annotations

import hashlib
import hmac


class SimPasswords:
    """`zugvogel.ports.passwords.Passwords`, quick instead of slow, so that simulated hosts use no threads."""

    nobody = "simulated:"

    async def hash(self, password: str) -> str:
        return f"simulated:{hashlib.sha256(password.encode()).hexdigest()}"

    async def verify(self, hashed: str, password: str) -> bool:
        return hmac.compare_digest(hashed, await self.hash(password))
