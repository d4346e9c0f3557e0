"""What a test of the simulator leaves behind is ended with it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.sim import small_world


@pytest.fixture(autouse=True)
def _ended_worlds() -> Iterator[None]:
    yield
    while small_world.MADE:
        small_world.MADE.pop().close()
