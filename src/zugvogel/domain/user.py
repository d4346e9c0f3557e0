"""Who uses the cluster: users with passwords, their sessions, and who asks at a given moment."""

from __future__ import annotations

import hashlib
from typing import Literal

from pydantic import Field

from zugvogel.domain.base import Model, Name
from zugvogel.domain.cluster import Access


class User(Model):
    """As the registry keeps it. `changed_at`: when password or access changed last."""

    name: Name
    access: Access
    password_hash: str = Field(repr=False)
    created_at: str
    changed_at: str

    def stamp(self) -> str:
        """Another one after every change of password or access, also when a user of the same name is made anew:
        a session that carries the former one has ended."""
        told = "\n".join((self.changed_at, self.access, self.password_hash))
        return hashlib.sha256(told.encode()).hexdigest()[:16]


class SessionKey(Model):
    """What sessions are signed with, on every host."""

    key: str = Field(repr=False)
    created_at: str


class EndedSession(Model):
    """A session whose user logged out. `ends_at_s`: Unix time from which nobody need remember it."""

    id: str
    user: Name
    ends_at_s: float


class Session(Model):
    """`token` is the bearer; it is in the answer to a login alone."""

    token: str = Field(repr=False)
    user: Name
    access: Access
    expires_at: str


class Caller(Model):
    """Who asks. `user`: the user's name, the token's id, or which service it is. `expires_at`: of a user's
    session; empty: it does not end by itself."""

    access: Access
    user: str
    kind: Literal["user", "token", "service"]
    expires_at: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.user}"
