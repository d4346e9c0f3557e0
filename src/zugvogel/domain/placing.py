"""Which host is to start a vm: what one agent asks another, and its answer."""

from __future__ import annotations

from zugvogel.domain.base import HostName, Model
from zugvogel.domain.vm import VmRecord


class PlaceWish(Model):
    """A host for the vm of `record`, to `what` ("start", "be resumed") it. `host`: the one a user named.
    `refused`: hosts that did not take it just now, and why. `is_admitted`: not where it takes room kept for
    failures, unless `is_forced`; `otherwise`: how a user forces it."""

    record: VmRecord
    what: str
    host: HostName | None = None
    refused: dict[str, str] = {}
    is_admitted: bool = False
    is_forced: bool = False
    otherwise: str = ""


class Placing(Model):
    """`why` this host. `overridden`: why it would have been refused, had it not been forced."""

    host: HostName
    why: str
    overridden: str = ""
