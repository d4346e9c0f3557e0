"""What a lab host claims to be: `[overrides]` in its agent.toml, read by the agent within a second."""

from __future__ import annotations

import tomllib
from typing import Any

import tomli_w

from zugvogel.errors import InvalidInput, Refused
from zugvogel.lab.layout import Layout


def write(layout: Layout, name: str, changes: dict[str, Any]) -> dict[str, Any]:
    """Merges `changes` into the host's overrides; None removes a key. Returns what holds now.
    Raises Refused when the host has no agent.toml."""
    path = layout.host(name).agent_toml
    try:
        data = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise Refused(f"{name} has no agent.toml: it is in no cluster yet", "run `zv lab status`") from None
    overrides = _merge(data.get("overrides", {}), changes)
    data["overrides"] = overrides
    mode = path.stat().st_mode & 0o777
    temporary = path.with_suffix(".new")
    temporary.write_text(tomli_w.dumps(data))
    temporary.chmod(mode)
    temporary.replace(path)
    return overrides


def _merge(old: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(old)
    for key, value in changes.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            merged[key] = _merge(merged.get(key, {}), value)
        else:
            merged[key] = value
    return merged


def parse_vlans(texts: list[str]) -> dict[str, int]:
    """``["lan=20"]`` -> ``{"lan": 20}``. Raises InvalidInput."""
    vlans = {}
    for text in texts:
        network, _, number = text.partition("=")
        if not network or not number.isdigit() or int(number) > 4094:
            raise InvalidInput(f"--vlan {text} names no VLAN", "write NETWORK=ID with an ID of 0 to 4094")
        vlans[network] = int(number)
    return vlans


def parse_size(text: str) -> int:
    """``2G``, ``512M`` or bytes -> bytes. Raises InvalidInput."""
    units = {"K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
    number, unit = (text[:-1], text[-1].upper()) if text and text[-1].upper() in units else (text, "")
    try:
        size = int(float(number) * units.get(unit, 1))
    except ValueError:
        size = 0
    if size <= 0:
        raise InvalidInput(f"{text} is no size", "write for example 512M or 2G")
    return size
