"""The inventory script, as Ansible calls it: a process of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.api.fake_backend import FakeBackend
from tests.cli.conftest import Served, serving
from zugvogel.cli import context as contexts
from zugvogel.domain.answers import HostView

SCRIPT = Path(__file__).resolve().parents[2] / "contrib" / "ansible" / "zugvogel_inventory.py"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(FakeBackend(), tmp_path_factory.mktemp("tls")) as found:
        yield found


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("zugvogel_inventory", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("ZUGVOGEL_")}
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, env=kept | environment, capture_output=True, text=True, timeout=60, check=False)


def of(served: Served) -> dict[str, str]:
    return {
        "ZUGVOGEL_URLS": f"https://127.0.0.1:1, {served.url}",
        "ZUGVOGEL_TOKEN": "viewer-token",
        "ZUGVOGEL_CA_FILE": str(served.ca_file),
    }


def test_the_list_of_a_cluster_told_by_the_environment(served: Served) -> None:
    told = run("--list", **of(served))
    assert told.returncode == 0, told.stderr
    found = json.loads(told.stdout)
    groups = {name: group["hosts"] for name, group in found.items() if name != "_meta"}
    assert groups["zv_vms"] == ["web1"]
    assert groups["zv_hosts"] == ["host1", "host2"]
    for group in (
        "zv_host_host1",
        "zv_datastore_shared",
        "zv_network_lan",
        "zv_state_running",
        "zv_priority_medium",
    ):
        assert groups[group] == ["web1"]
    assert groups["zv_verdict_live"] == ["host1"]
    assert groups["zv_verdict_failed"] == ["host2"]
    variables = found["_meta"]["hostvars"]
    assert variables["web1"]["ansible_host"] == "198.51.100.10"
    assert variables["web1"]["zugvogel_host"] == "host1"
    assert variables["host2"]["ansible_host"] == "192.0.2.12"


def test_one_of_the_current_context(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "contexts.toml"
    monkeypatch.setenv(contexts.FILE_VARIABLE, str(file))
    held = contexts.Context("birds", (served.url,), "viewer-token", str(served.ca_file))
    contexts.add(held, make_current=True)
    told = run("--host", "web1", **{contexts.FILE_VARIABLE: str(file)})
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["zugvogel_addresses"] == ["198.51.100.10"]


def test_what_goes_wrong_is_one_line(served: Served, tmp_path: Path) -> None:
    unknown = run("--host", "web9", **of(served))
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert unknown.stderr == "zugvogel_inventory: there is no vm and no host web9; see --list\n"
    nowhere = run("--list", **{contexts.FILE_VARIABLE: str(tmp_path / "none.toml")})
    assert nowhere.returncode == 1
    assert "no cluster is known here" in nowhere.stderr
    assert "Traceback" not in nowhere.stderr
    assert run().returncode == 2


async def test_names_that_ansible_would_not_take(script: ModuleType) -> None:
    [vm] = await FakeBackend().vms()
    hosts = [HostView.of(status) for status in await FakeBackend().hosts()]
    off = vm.model_copy(
        update={"name": "host1", "host": None, "addresses": (), "networks": ("lan-2.x", "lan-2.x")}
    )
    found: dict[str, Any] = script.inventory(hosts, [off])
    assert found["zv_network_lan_2_x"]["hosts"] == ["host1"]
    assert "zv_host_host1" not in found
    assert found["zv_hosts"]["hosts"] == ["host1.host", "host2"]
    assert "ansible_host" not in found["_meta"]["hostvars"]["host1"]


def test_it_can_be_run(script: ModuleType) -> None:
    assert os.access(SCRIPT, os.X_OK)
    assert SCRIPT.read_text().startswith("#!/usr/bin/env python3\n")
