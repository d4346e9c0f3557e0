"""Users and sessions in a simulated cluster: the product's own operations, on virtual time."""

from __future__ import annotations

import pytest

from tests.sim.small_world import agent, does, small_world
from zugvogel.domain.cluster import Access
from zugvogel.domain.requests import NewUser
from zugvogel.errors import Forbidden


def test_who_logs_in_at_one_host_is_known_at_another_also_without_a_majority() -> None:
    world = small_world(begins=True)
    world.run_until(5.0)
    first, second = (agent(world, name).services.operations for name in ("h1", "h2"))
    does(world, first.new_user(NewUser(name="ada", access=Access.OPERATOR, password="correct horse")))
    world.run_until(world.loop.now + 2.0)
    with pytest.raises(Forbidden):
        does(world, second.login("ada", "wrong"))
    world.wires.cut(["h2"])
    session = does(world, second.login("ada", "correct horse"))
    assert session.expires_at.startswith("2030-01-01T12:00:"), "it is virtual time"
    for operations in (first, second):
        assert does(world, operations.authenticate(session.token)).user == "ada"
