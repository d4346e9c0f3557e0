"""Writes docs/reference/settings.md from SETTINGS itself: `python scripts/settings_reference.py`.

With `--check` it writes nothing and ends with 1 when the file is not up to date.
"""

from __future__ import annotations

import sys
from pathlib import Path

from zugvogel.domain.settings import ISOLATION_ADDRESSES, SETTINGS, Setting, allowed

TARGET = Path(__file__).resolve().parent.parent / "docs" / "reference" / "settings.md"
HEAD = """\
# Settings of the cluster

<!-- Written by scripts/settings_reference.py from the program itself. Change the texts there, not this page. -->

`zv settings list`, `zv settings get NAME`, `zv settings set NAME VALUE`. They hold for the whole cluster and count
within a second or two on every host; a host that is cut off goes on with those it knew. Numbers are whole, without
their unit. Names that begin with `das.` are VMware's where VMware has the setting.
"""
GROUPS = (
    ("das.", "High availability", "How to use them: [high availability](../how-to/high-availability.md)."),
    ("migration.", "Migration", "How to use them: [migrate a VM](../how-to/migrate-a-vm.md)."),
    ("vm.", "VMs", ""),
    ("console.", "Users", "More about it: [give people access](../how-to/users-and-access.md)."),
)


def reference() -> str:
    """The whole page."""
    parts = [HEAD]
    for prefix, heading, text in GROUPS:
        parts.append(f"## {heading}\n" + (f"{text}\n" if text else ""))
        rows = [_row(s) for s in SETTINGS.values() if s.name.startswith(prefix) and _is_shown(s)]
        parts.append("| name | default | allowed | what it is for |\n|---|---|---|---|\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)


def _is_shown(setting: Setting) -> bool:
    """Ten isolation addresses are one row."""
    return setting.name not in ISOLATION_ADDRESSES[1:]


def _row(setting: Setting) -> str:
    name, default = setting.name, setting.default
    shown = {True: "on", False: "off"}[default] if isinstance(default, bool) else str(default)
    names = f"`{name}` ... `{ISOLATION_ADDRESSES[-1]}`" if name == ISOLATION_ADDRESSES[0] else f"`{name}`"
    return f"| {names} | {f'{shown} {setting.unit}'.strip()} | {allowed(setting)} | {setting.reason} |"


if __name__ == "__main__":
    import reference_page

    sys.exit(reference_page.keep(TARGET, reference()))
