"""A fake cluster's API behind real sockets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.api.fake_backend import FakeBackend
from tests.cli.conftest import Served, serving


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(FakeBackend(), tmp_path_factory.mktemp("tls")) as found:
        yield found
