"""Which addresses of a vm answer, asked from this host's bridge."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from zugvogel.errors import ZugvogelError
from zugvogel.ports.network import HostNetwork

log = logging.getLogger(__name__)

MOST = 4


async def answering(
    network: HostNetwork, bridge: str, mac: str, addresses: Sequence[str], wait_s: float
) -> tuple[str, ...]:
    """Those of `addresses` (of the first few) for which `mac` answers an ARP probe within `wait_s` each. Never
    raises."""
    found = []
    for address in addresses[:MOST]:
        try:
            if await network.probe(bridge, address, wait_s) == mac:
                found.append(address)
        except (ZugvogelError, OSError) as error:
            log.warning("%s of %s not probed: %s", address, mac, error)
    return tuple(found)
