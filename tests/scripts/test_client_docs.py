"""The examples of the pages about the Python client and Ansible are run, or held against what they tell of."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.fake_backend import FakeBackend
from tests.cli.conftest import Served, serving
from zugvogel.domain.answers import HostView
from zugvogel.domain.cluster import Access
from zugvogel.domain.requests import NewUser

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serving(FakeBackend(), tmp_path) as found:
        yield found


async def test_the_examples_of_the_python_client_run(
    served: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import asyncio

    await served.backend.new_user(NewUser(name="ada", access=Access.VIEWER, password="correct horse"))
    told = {"URLS": served.url, "TOKEN": "admin-token", "CA_FILE": str(served.ca_file)}
    for name, value in told.items():
        monkeypatch.setenv(f"ZUGVOGEL_{name}", value)
    page = (ROOT / "docs" / "how-to" / "python-client.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    for example in examples:
        code = compile(example, "python-client.md", "exec")
        await asyncio.to_thread(exec, code, names)
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "web1 running host1 198.51.100.10"
    assert "31.0 ms" in out
    assert "there is no vm web9" in out
    assert "2 hosts, 1 vms" in out
    assert any("host2" in line and "failed" in line for line in out)
    assert out[-1].startswith("ada viewer ")


async def test_the_page_of_ansible_tells_all_groups_and_variables() -> None:
    page = (ROOT / "docs" / "how-to" / "ansible.md").read_text()
    path = ROOT / "contrib" / "ansible" / "zugvogel_inventory.py"
    spec = importlib.util.spec_from_file_location("zugvogel_inventory", path)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    hosts = [HostView.of(status) for status in await FakeBackend().hosts()]
    hosts[0] = hosts[0].model_copy(update={"failure_domain": "rack1"})
    found = script.inventory(hosts, await FakeBackend().vms())
    kinds = {re.sub(r"^(zv_[a-z]+_).*", r"\1", group) for group in found if group != "_meta"}
    assert kinds == {
        re.sub(r"^(zv_[a-z]+_).*", r"\1", g) for g in re.findall(r"`(zv_\w+)`", page.split("## Var")[0])
    }
    variables = {name for told in found["_meta"]["hostvars"].values() for name in told}
    assert variables == set(re.findall(r"`((?:zugvogel|ansible)_\w+)`", page.split("## Var")[1]))
