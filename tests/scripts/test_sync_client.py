"""The blocking client is the one for asyncio, written anew."""

from __future__ import annotations

import importlib.util
import inspect
from pathlib import Path
from types import ModuleType

from zugvogel.client import AsyncClient, Client

ROOT = Path(__file__).resolve().parents[2]


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sync_client", ROOT / "scripts" / "sync_client.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_they_are_in_step() -> None:
    wanted = script().files()
    found = {path: path.read_text() for path in (ROOT / "src/zugvogel/client/_sync").glob("*.py")}
    assert found == wanted, "run: python scripts/sync_client.py"


def test_nothing_of_asyncio_is_left() -> None:
    for path, text in script().files().items():
        assert "async" not in text.replace("`_async`", "").lower(), path
        assert "await" not in text, path


def test_both_have_the_same_methods() -> None:
    def names(kind: type) -> set[str]:
        return {name for name, _ in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")}

    assert names(Client) == names(AsyncClient)
    assert inspect.signature(Client.migrate_vm) == inspect.signature(AsyncClient.migrate_vm)
