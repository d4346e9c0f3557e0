"""How long the heir of a live migration asks for its lease before it gives the vm up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.core.facts import definition
from zugvogel.domain.datastore import Datastore
from zugvogel.domain.lease import Holder, Lease, LeaseState
from zugvogel.domain.migration import TargetPhase
from zugvogel.domain.vm import Disk
from zugvogel.errors import DeadlineExceeded
from zugvogel.services.migration.heir_claim import HeirClaim
from zugvogel.services.migration.incoming_session import Session, Wanted
from zugvogel.sim.loop import VirtualLoop

LIMIT_S = 140.0
A, B = Holder(host="host1", boot_id="a"), Holder(host="host2", boot_id="b")
HEALS_AT = 1000.0


class World:
    """Of host2, the heir, whose datastore hangs until `heals_at`."""

    def __init__(
        self, *, limit_s: float = LIMIT_S, kind: str = "NFS v4", cache: Any = "none", reaches: bool = True
    ) -> None:
        self.loop = VirtualLoop()
        self.heals_at = HEALS_AT
        self.wanted = Wanted()
        self.reaches = reaches
        self._ask()
        self.machine: Any = SimpleNamespace(is_frozen=True)
        self.lease = Lease(
            vm="web", epoch=4, state=LeaseState.RUNNING, holder=A, heir="host2", migration_id="m1", written_at="x"
        )
        datastore = Datastore(name="shared", id="ds1", path="/mnt/shared", kind=kind, is_shared=True)
        vms: Any = SimpleNamespace(
            host="host2",
            me=B,
            clock=SimpleNamespace(now_iso=lambda: "x", sleep=self.loop.sleep, monotonic=lambda: self.loop.now),
            inventory=SimpleNamespace(number=lambda name: limit_s, datastore=lambda name: datastore),
            mounted=lambda name: SimpleNamespace(leases=self),
        )
        disk = Disk(file="disk0.raw", format="raw", size_bytes=1 << 30, cache=cache)
        session = Session(
            id="m1",
            vm="web",
            definition=definition(disks=(disk,)),
            datastore="shared",
            source="host1",
            phase=TargetPhase.RUNNING,
            heard_at=0.0,
            wanted=self.wanted,
        )
        self.claim_of_heir = HeirClaim(vms, session, self.machine)

    async def read(self, vm: str) -> Lease:
        if self.loop.now < self.heals_at:
            raise DeadlineExceeded("the datastore does not answer", "")
        return self.lease

    async def claim(self, lease: Lease) -> Lease:
        return lease

    def _ask(self) -> None:
        """As its source does all the time, and the active primary once a minute."""
        self.wanted.note(self.reaches, self.loop.now)
        self.loop.world_at(self.loop.now + 60.0, self._ask)

    def ends(self) -> Lease | None:
        return self.loop.run_until_complete(self.claim_of_heir.link())


def test_a_frozen_one_is_given_up_when_its_storage_stays_away() -> None:
    w = World()
    assert w.ends() is None
    assert w.loop.now == pytest.approx(LIMIT_S, abs=1.0)
    assert "host2 lost datastore shared" in w.claim_of_heir.why
    assert not w.claim_of_heir.is_elsewhere


@pytest.mark.parametrize(
    "kept",
    [
        {"limit_s": 0.0},  # never given up
        {"kind": "NFS v3"},  # writes of it may be on their way
        {"cache": "writeback"},
        {"reaches": False},  # nobody who asks for it could start it
    ],
)
def test_it_is_kept_until_the_storage_works_again(kept: dict[str, Any]) -> None:
    w = World(**kept)
    lease = w.ends()
    assert lease is not None
    assert (lease.holder, lease.epoch) == (B, 5)
    assert w.loop.now >= HEALS_AT


def test_one_that_runs_is_kept_and_one_that_ran_meanwhile_begins_anew() -> None:
    w = World()
    w.machine.is_frozen = False
    w.loop.world_at(500.0, lambda: setattr(w.machine, "is_frozen", True))
    w.loop.world_at(600.0, lambda: setattr(w.machine, "is_frozen", False))
    w.loop.world_at(610.0, lambda: setattr(w.machine, "is_frozen", True))
    assert w.ends() is None
    assert w.loop.now == pytest.approx(610.0 + LIMIT_S, abs=1.5)


def test_a_lease_that_went_elsewhere_ends_it() -> None:
    w = World()
    w.heals_at, w.lease = 0.0, w.lease.model_copy(update={"heir": None, "epoch": 5})
    assert w.ends() is None
    assert w.claim_of_heir.is_elsewhere


def test_it_waits_a_moment_where_the_storage_works_again_for_all() -> None:
    w = World(reaches=False)
    w.heals_at = 312.0
    w.loop.world_at(310.0, lambda: w.wanted.note(True, 310.0))
    assert w.ends() is not None


@pytest.mark.parametrize(
    ("asks", "is_long"),
    [
        ([], False),
        ([(0.0, True)], True),
        ([(10.0, True)], False),  # for 10 s
        ([(0.0, True), (5.0, False)], False),
        ([(0.0, True), (5.0, False), (10.0, True)], False),
        ([(-200.0, True), (10.0, True)], False),  # who asked then has been silent since
        ([(-100.0, True), (-40.0, True)], True),
        ([(-100.0, True)], False),
    ],
)
def test_how_long_it_has_been_wanted(asks: list[tuple[float, bool]], is_long: bool) -> None:
    wanted = Wanted()
    for at, reaches in asks:
        wanted.note(reaches, at)
    assert wanted.is_long(20.0) is is_long
