from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.adapters.etcd.members_on_loopback import Running, Site


@pytest.fixture
async def members_running(tmp_path: Path) -> AsyncIterator[Running]:
    running = Running(Site(tmp_path))
    yield running
    await running.close()
