"""The CLI context of a lab, in the same file the CLI reads.

Written here too because the lab lies below the CLI and cannot import it.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tomli_w

NAME = "lab"


def path() -> Path:
    """``$ZUGVOGEL_CONTEXTS``, else ``contexts.toml`` in the user's configuration folder."""
    named = os.environ.get("ZUGVOGEL_CONTEXTS")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "zugvogel" / "contexts.toml"


def add(name: str, *, urls: Sequence[str], token: str, ca_file: str, netns: str) -> None:
    """Writes the context and makes it the current one; the former one comes back with `remove`."""
    data = _read()
    before = data.get("current", "")
    contexts = data.setdefault("contexts", {})
    contexts[name] = {"urls": list(urls), "token": token, "ca_file": ca_file, "netns": netns}
    if before and before != name:
        contexts[name]["previous"] = before
    data["current"] = name
    _write(data)


def remove(name: str, *, owner: str) -> None:
    """Removes the context if its CA file is `owner`'s: another lab's stays."""
    data = _read()
    found = data.get("contexts", {}).get(name)
    if found is None or found.get("ca_file") != owner:
        return
    del data["contexts"][name]
    if data.get("current") == name:
        data["current"] = found.get("previous", "")
    if data["contexts"]:
        _write(data)
    else:
        path().unlink(missing_ok=True)


def _read() -> dict[str, Any]:
    try:
        return tomllib.loads(path().read_text())
    except (FileNotFoundError, tomllib.TOMLDecodeError):
        return {}


def _write(data: dict[str, Any]) -> None:
    target = path()
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "wb") as file:
        tomli_w.dump(data, file)
    temporary.replace(target)
