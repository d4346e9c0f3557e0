"""Contexts: which cluster the CLI talks to, with which token. Kept in one file that only its user can read.

``$ZUGVOGEL_CONTEXTS`` names the file, else it is ``contexts.toml`` in the user's configuration folder.
"""

from __future__ import annotations

import ctypes
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zugvogel.errors import InvalidInput, NotFound, Refused

CONTEXT_VARIABLE = "ZUGVOGEL_CONTEXT"
FILE_VARIABLE = "ZUGVOGEL_CONTEXTS"
CLONE_NEWNET = 0x40000000


@dataclass(frozen=True, slots=True)
class Context:
    """`netns`: name of a network namespace to enter before connecting (the lab); empty: none.

    `user`: who has logged in; `token` is that user's session then, empty after logging out. Without a user it is
    an API token."""

    name: str
    urls: tuple[str, ...]
    token: str
    ca_file: str
    netns: str = ""
    user: str = ""


def path() -> Path:
    named = os.environ.get(FILE_VARIABLE)
    if named:
        return Path(named)
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "zugvogel" / "contexts.toml"


def load() -> dict[str, Any]:
    """The whole file: ``current`` and ``contexts``. Raises Refused when it cannot be read."""
    try:
        data = tomllib.loads(path().read_text())
    except FileNotFoundError:
        data = {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Refused(f"{path()} cannot be read: {error}", "mend or remove it") from None
    data.setdefault("current", "")
    data.setdefault("contexts", {})
    return data


def save(data: dict[str, Any]) -> None:
    """Replaces the file atomically; mode 0600."""
    import tomli_w

    target = path()
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        tomli_w.dump(data, file)
    temporary.replace(target)


def add(context: Context, *, make_current: bool) -> None:
    for url in context.urls:
        if not url.startswith("https://"):
            raise InvalidInput(f"{url} is no https:// address", "agents answer at https://HOST:7440")
    data = load()
    kept: dict[str, Any] = {"urls": list(context.urls), "token": context.token, "ca_file": context.ca_file}
    kept |= {name: value for name in ("netns", "user") if (value := getattr(context, name))}
    data["contexts"][context.name] = kept
    if make_current or not data["current"]:
        data["current"] = context.name
    save(data)


def named(name: str, data: dict[str, Any] | None = None) -> Context:
    """Raises NotFound."""
    data = data or load()
    found = data["contexts"].get(name)
    if found is None:
        known = ", ".join(sorted(data["contexts"])) or "none"
        raise NotFound(f"there is no context {name}", f"known: {known}; see `zv context add --help`")
    return Context(
        name=name,
        urls=tuple(found.get("urls", ())),
        token=found.get("token", ""),
        ca_file=found.get("ca_file", ""),
        netns=found.get("netns", ""),
        user=found.get("user", ""),
    )


def chosen(option: str = "") -> Context:
    """By --context, else $ZUGVOGEL_CONTEXT, else the current one. Raises NotFound."""
    data = load()
    name = option or os.environ.get(CONTEXT_VARIABLE, "") or data["current"]
    if not name:
        raise NotFound("no cluster is known here", "add one with `zv context add`, or try `zv lab up`")
    return named(name, data)


def enter_netns(name: str) -> None:
    """Move this process's thread into ``/run/netns/<name>``. Raises Refused."""
    if not name or "/" in name or name.startswith("."):
        raise InvalidInput(f"{name!r} is no name of a network namespace", "see: ip netns list")
    file = Path("/run/netns") / name
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        step = "run as root" if isinstance(error, PermissionError) else "is the lab up? see `zv lab status`"
        raise Refused(f"network namespace {name} cannot be entered: {error.strerror}", step) from None
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(descriptor, CLONE_NEWNET) != 0:
            why = os.strerror(ctypes.get_errno())
            raise Refused(f"network namespace {name} cannot be entered: {why}", "run as root")
    finally:
        os.close(descriptor)
