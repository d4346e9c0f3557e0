"""The committed table of operations is what the API says of itself today."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.api.fake_backend import FakeBackend
from zugvogel.api.app import create_app

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "api_reference.py"
PAGE = ROOT / "docs" / "reference" / "rest-api.md"


def run(*arguments: str) -> tuple[int, str]:
    command = [sys.executable, str(SCRIPT), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.returncode, result.stderr


def test_the_page_is_up_to_date() -> None:
    assert run("--check") == (0, "")


def test_every_operation_is_on_the_page_with_its_method() -> None:
    text = PAGE.read_text()
    for path, methods in create_app(FakeBackend()).openapi()["paths"].items():
        for method, told in methods.items():
            row = next(line for line in text.splitlines() if line.endswith(f"| `{told['operationId']}` |"))
            assert f"`{method.upper()} {path.removeprefix('/api/v1')}`" in row


def test_the_document_for_other_tools(tmp_path: Path) -> None:
    file = tmp_path / "openapi.json"
    assert run("--openapi", str(file)) == (0, "")
    assert json.loads(file.read_text()) == create_app(FakeBackend()).openapi()
