"""The cluster as a whole: its record, its API users."""

from __future__ import annotations

from enum import StrEnum

from zugvogel.domain.base import Model, Name


class Access(StrEnum):
    """Roles of API tokens, each including the one before."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    def allows(self, needed: Access) -> bool:
        order = list(Access)
        return order.index(self) >= order.index(needed)


class Cluster(Model):
    """`cpu_baseline` empty: none set yet, computed from the hosts' facts when the first vm needs it."""

    id: str
    name: Name
    created_at: str
    cpu_baseline: str = ""


class Token(Model):
    """An API token as the registry keeps it; only the hash of the secret is stored."""

    id: str
    access: Access
    secret_sha256: str
    description: str = ""
    created_at: str = ""


class JoinToken(Model):
    """A one-time token for one host. `expires_at_s` is Unix time on the issuing cluster's clocks."""

    id: str
    secret_sha256: str
    expires_at_s: float
