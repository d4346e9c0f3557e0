"""One lab of three hosts for all tests of this directory; each test leaves it whole."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.e2e.cluster import FAILPOINTS, ZV, Cluster
from zugvogel.lab.layout import ROOT_VARIABLE, Layout


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    root = Path("/var/tmp") / f"zugvogel-test-{os.getpid()}"
    os.environ[ROOT_VARIABLE] = str(root)
    os.environ["ZUGVOGEL_FAILPOINTS"] = FAILPOINTS
    os.environ["ZUGVOGEL_CONFIG"] = str(tmp_path_factory.mktemp("config"))
    os.environ["XDG_CONFIG_HOME"] = os.environ["HOME"] = os.environ["ZUGVOGEL_CONFIG"]
    try:
        subprocess.run([*ZV, "lab", "up", "--hosts", "3"], check=True, timeout=300)
        yield Cluster(Layout.from_environment())
    finally:
        subprocess.run([*ZV, "lab", "down"], check=False, timeout=120)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure shows what the agents logged."""
    report = yield
    cluster = getattr(item, "funcargs", {}).get("cluster")
    if report.failed and isinstance(cluster, Cluster):
        for host in cluster.hosts if cluster.layout.state_file.exists() else ():
            report.sections.append((f"agent of {host}", cluster.agent_log(host)))
    return report


@pytest.fixture(autouse=True)
def _whole(cluster: Cluster) -> Iterator[None]:
    yield
    cluster.release_all()
    subprocess.run([*ZV, "lab", "heal"], check=False, timeout=60, capture_output=True)
    cluster.all_live()
