"""zugvogel.services.address_probes"""

from __future__ import annotations

from typing import Any, cast

import pytest

from zugvogel.errors import Refused
from zugvogel.ports.network import HostNetwork
from zugvogel.services.address_probes import MOST, answering

MAC, OTHER = "52:54:00:00:00:01", "52:54:00:00:00:02"


class Network:
    def __init__(self, **answers: Any) -> None:
        self.answers = {name.replace("_", "."): answer for name, answer in answers.items()}
        self.asked: list[tuple[str, str, float]] = []

    async def probe(self, bridge: str, address: str, timeout_s: float) -> str | None:
        self.asked.append((bridge, address, timeout_s))
        answer = self.answers.get(address)
        if isinstance(answer, Exception):
            raise answer
        return cast(str | None, answer)


async def ask(network: Network, *addresses: str) -> tuple[str, ...]:
    return await answering(cast(HostNetwork, network), "br0", MAC, addresses, 0.5)


async def test_an_address_counts_where_its_own_mac_answers() -> None:
    network = Network(a=MAC, b=OTHER)
    assert await ask(network, "a", "b", "c") == ("a",)
    assert network.asked == [("br0", "a", 0.5), ("br0", "b", 0.5), ("br0", "c", 0.5)]


@pytest.mark.parametrize("error", [OSError("no such device"), Refused("no bridge")])
async def test_one_that_cannot_be_asked_keeps_none_from_being_asked(error: Exception) -> None:
    assert await ask(Network(a=error, b=MAC), "a", "b") == ("b",)


async def test_a_vm_with_many_addresses_is_not_asked_for_all() -> None:
    network = Network()
    await ask(network, *(str(number) for number in range(MOST + 3)))
    assert len(network.asked) == MOST
