"""Orders that a judge finds on its datastore when it takes the role."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from zugvogel.errors import DeadlineExceeded, ZugvogelError
from zugvogel.ports.storage import Orders

log = logging.getLogger(__name__)


async def given_to(orders: Orders, hosts: Iterable[str]) -> list[tuple[str, dict[str, bytes]]]:
    """(host, vm -> order). What cannot be read of one host is left out: an order that is not known does no harm,
    since only the epoch after the one it names is linked for it. Raises `DeadlineExceeded` where the datastore
    does not answer."""
    names = list(hosts)
    found: list[tuple[str, dict[str, bytes]]] = []
    for host, given in zip(
        names, await asyncio.gather(*(orders.given(host) for host in names), return_exceptions=True), strict=True
    ):
        if isinstance(given, ZugvogelError) and not isinstance(given, DeadlineExceeded):
            log.warning("orders to %s cannot be read: %s", host, given)
        elif isinstance(given, BaseException):
            raise given
        else:
            found.append((host, given))
    return found
