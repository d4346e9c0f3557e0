"""zugvogel.services.local_vms: an agent that has just started looks first and then answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from zugvogel.errors import NotFound, Refused, Unreachable
from zugvogel.services.local_vms import LOOKING, SETTLE_S, LocalVms


class Clock:
    """`sleep` passes at once; `at` is what happens at which second."""

    def __init__(self) -> None:
        self.now, self.at = 0.0, dict[float, Callable[[], None]]()

    def monotonic(self) -> float:
        return self.now

    def now_iso(self) -> str:
        return "2026-01-01T00:00:00.000Z"

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        for when in [w for w in self.at if w <= self.now]:
            self.at.pop(when)()


class Guest:
    busy = ""


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def vms(clock: Clock) -> LocalVms:
    none: Any = None
    return LocalVms(
        host="host1",
        boot_id="1",
        hypervisor=none,
        network=none,
        inventory=none,
        mounted=none,
        events=none,
        clock=clock,
    )


def adopted(vms: LocalVms, busy: str = "") -> Callable[[], None]:
    def adopt() -> None:
        guest: Any = Guest()
        guest.busy = busy
        vms.guests["web"] = guest
        vms.expected_no_more("web")

    return adopt


async def test_a_request_waits_until_the_vm_is_in_care(vms: LocalVms, clock: Clock) -> None:
    clock.at = {1.0: lambda: vms.expect(["web", "db"]), 2.0: adopted(vms)}
    guest: object = await vms.settled_guest("web")
    assert guest is vms.guests["web"]
    assert 2.0 <= clock.now < 3.0


async def test_a_vm_that_is_not_here_is_told_as_soon_as_that_is_known(vms: LocalVms, clock: Clock) -> None:
    clock.at = {1.0: lambda: vms.expect(["db"])}
    with pytest.raises(NotFound, match="web is not running on host1"):
        await vms.settled_guest("web")
    assert clock.now < 2.0


async def test_what_is_being_done_with_it_is_told_and_not_waited_for(vms: LocalVms, clock: Clock) -> None:
    vms.expect([])
    adopted(vms, "migrating")()
    with pytest.raises(Refused, match="migrating"):
        await vms.settled_guest("web")
    assert clock.now == 0.0


async def test_a_suspend_that_was_cut_off_is_looked_at_first(vms: LocalVms, clock: Clock) -> None:
    vms.expect([])
    adopted(vms, LOOKING)()
    clock.at = {3.0: adopted(vms)}
    await vms.settled_guest("web")
    assert 3.0 <= clock.now < 4.0


async def test_a_look_that_does_not_end_is_told(vms: LocalVms, clock: Clock) -> None:
    vms.expect(["web"])
    with pytest.raises(Unreachable, match="has just started"):
        await vms.settled_guest("web")
    assert SETTLE_S <= clock.now < SETTLE_S + 1
    with pytest.raises(Unreachable):
        await vms.start("web")
