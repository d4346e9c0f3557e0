"""Somebody must be able to administer the cluster: an admin token or an admin user stays."""

from __future__ import annotations

from zugvogel.domain.cluster import Access
from zugvogel.errors import Refused
from zugvogel.services.inventory import Inventory


def refuse_last_admin(inventory: Inventory, *, token: str = "", user: str = "") -> None:
    """Raises Refused when nobody else than this token or this user is an admin."""
    others = [t.id for t in inventory.tokens() if t.access is Access.ADMIN and t.id != token]
    others += [u.name for u in inventory.users() if u.access is Access.ADMIN and u.name != user]
    if not others:
        what = (
            f"user {user} is the last admin" if user else "this is the last admin token, and no user is an admin"
        )
        raise Refused(what, "make another one first: zv token create --access admin")
