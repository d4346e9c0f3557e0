"""A lab that stands beside the lab of the other tests: six hosts, five primaries and a secondary, or fewer."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.cluster import FAILPOINTS, ZV, Cluster
from zugvogel.lab.layout import ROOT_VARIABLE, Layout


@contextmanager
def six_hosts(folders: pytest.TempPathFactory, name: str) -> Iterator[Cluster]:
    """With a root and CLI contexts of its own; gone at the end. `name` tells it from others."""
    with own_lab(folders, name, 6) as made:
        yield made


@contextmanager
def own_lab(folders: pytest.TempPathFactory, name: str, hosts: int) -> Iterator[Cluster]:
    """As `six_hosts`."""
    folder = folders.mktemp(name)
    root = Path("/var/tmp") / f"zugvogel-{name}-{folder.parent.name}"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(ROOT_VARIABLE, str(root))
        environment.setenv("ZUGVOGEL_FAILPOINTS", FAILPOINTS)
        environment.setenv("XDG_CONFIG_HOME", str(folder))
        try:
            subprocess.run([*ZV, "lab", "up", "--hosts", str(hosts)], check=True, timeout=300)
            yield Cluster(Layout.from_environment())
        finally:
            subprocess.run([*ZV, "lab", "down"], check=False, timeout=120)
