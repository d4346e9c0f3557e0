"""zugvogel.services.ha.fencing"""

from __future__ import annotations

import asyncio

import pytest

from zugvogel.domain.host import Host, Role
from zugvogel.errors import DeadlineExceeded, Refused
from zugvogel.services.ha.fencing import Fencing


class Devices:
    """Each call waits until it is let go."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.cancelled: list[str] = []
        self.go = asyncio.Event()
        self.fails = False

    async def power_off(self, host: Host) -> str:
        self.calls.append(f"off {host.name}")
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled.append(host.name)
            raise
        if self.fails:
            raise DeadlineExceeded("it does not answer")
        return "off"

    async def is_on(self, host: Host) -> bool:
        self.calls.append(f"status {host.name}")
        await self.go.wait()
        return False


def host(name: str) -> Host:
    return Host(name=name, address="192.0.2.1", role=Role.PRIMARY, ordinal=1, joined_at="")


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_one_call_at_a_time_for_each_host() -> None:
    devices = Devices()
    fencing = Fencing("host1", devices)
    calls = [
        asyncio.create_task(fencing.power_off(host("host2"))),
        asyncio.create_task(fencing.power_off(host("host2"))),
        asyncio.create_task(fencing.power_off(host("host3"))),
    ]
    status = asyncio.create_task(fencing.is_on(host("host2")))
    await settle()
    assert devices.calls == ["off host2", "off host3"]
    devices.go.set()
    assert await asyncio.gather(*calls) == ["off"] * 3
    assert await status is False
    assert devices.calls == ["off host2", "off host3", "off host2", "status host2"]


async def test_a_host_never_cuts_its_own_power() -> None:
    devices = Devices()
    with pytest.raises(Refused, match="its own power"):
        await Fencing("host1", devices).power_off(host("host1"))
    assert devices.calls == []


async def test_a_failure_is_the_callers_and_the_next_gets_its_turn() -> None:
    devices = Devices()
    fencing = Fencing("host1", devices)
    devices.go.set()
    devices.fails = True
    with pytest.raises(DeadlineExceeded):
        await fencing.power_off(host("host2"))
    devices.fails = False
    assert await fencing.power_off(host("host2")) == "off"


async def test_a_cancelled_call_ends_and_the_next_gets_its_turn() -> None:
    devices = Devices()
    fencing = Fencing("host1", devices)
    first = asyncio.create_task(fencing.power_off(host("host2")))
    await settle()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert devices.cancelled == ["host2"]
    devices.go.set()
    assert await fencing.power_off(host("host2")) == "off"


async def test_what_nobody_wants_any_more_when_its_turn_comes_is_not_done() -> None:
    devices = Devices()
    fencing = Fencing("host1", devices)
    wanted = [True]
    first = asyncio.create_task(fencing.power_off(host("host2")))
    second = asyncio.create_task(fencing.power_off(host("host2"), lambda: wanted[0]))
    await settle()
    wanted[0] = False  # it came back while the device was busy
    devices.go.set()
    assert await first == "off"
    with pytest.raises(Refused, match="not to be cut any more"):
        await second
    assert devices.calls == ["off host2"]
