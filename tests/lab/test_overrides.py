"""Overrides: merged into agent.toml, None takes away, everything else in the file stays."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from zugvogel.domain.overrides import Overrides
from zugvogel.errors import InvalidInput, Refused
from zugvogel.lab import overrides
from zugvogel.lab.layout import Layout


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    layout.host("host1").etc.mkdir(parents=True)
    layout.host("host1").agent_toml.write_text('name = "host1"\n[overrides]\ncores = 4\n')
    return layout


def test_changes_merge_and_none_takes_away(layout: Layout) -> None:
    overrides.write(layout, "host1", {"cpu": {"vendor": "AuthenticAMD"}, "vlans": {"lan": 20}})
    now = overrides.write(layout, "host1", {"cores": None, "cpu": {"without_flags": ["avx2"]}, "link_mbit": 100})
    assert now == {
        "cpu": {"vendor": "AuthenticAMD", "without_flags": ["avx2"]},
        "vlans": {"lan": 20},
        "link_mbit": 100,
    }
    data = tomllib.loads(layout.host("host1").agent_toml.read_text())
    assert data == {"name": "host1", "overrides": now}
    Overrides.model_validate(now)


def test_a_host_without_a_file_is_refused(layout: Layout) -> None:
    with pytest.raises(Refused, match="host2"):
        overrides.write(layout, "host2", {"cores": 1})


@pytest.mark.parametrize(("text", "size"), [("512M", 512 * 1024**2), ("1.5G", 3 * 512 * 1024**2), ("4096", 4096)])
def test_sizes(text: str, size: int) -> None:
    assert overrides.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1G", "two", "0"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(InvalidInput):
        overrides.parse_size(text)


def test_vlans() -> None:
    assert overrides.parse_vlans(["lan=20", "dmz=0"]) == {"lan": 20, "dmz": 0}
    for text in ("lan", "=4", "lan=x", "lan=4095"):
        with pytest.raises(InvalidInput):
            overrides.parse_vlans([text])
