"""The demo's second act: a host that is cut off saves its vms, a host that loses its power has them restarted."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from zugvogel.cli.demo_stage import address_of, as_json, console, guest_state, wait, zv
from zugvogel.errors import ProcedureFailed

DETECTION_MS = 5000
PATIENCE_S = 120.0


def perform(*, saved: str, restarted: str) -> None:
    """`saved`: the vm whose host loses its network. `restarted`: the one whose host loses its power."""
    console.rule("[bold]high availability[/]: a short detection time, and what an isolated host does with its vms")
    zv("settings", "set", "das.failuredetectiontime", str(DETECTION_MS))
    zv("ha", "enable")
    zv("vm", "set", saved, "--isolation-response", "suspend")
    wait("an active primary", lambda: bool(as_json("ha", "status")["active_primary"]), PATIENCE_S)
    zv("ha", "status")
    rows = [_isolation(saved), _power_cut(restarted)]
    _tell(rows)


def _isolation(vm: str) -> dict[str, Any]:
    host = _host_of(vm)
    console.rule(f"[bold]{host} loses its network[/]; its datastore works, so it saves {vm} for another host")
    return _suffer(vm, host, ("lab", "network", host, "cut"), ("lab", "network", host, "heal"))


def _power_cut(vm: str) -> dict[str, Any]:
    host = _host_of(vm)
    console.rule(f"[bold]{host} loses its power[/]; {vm} is restarted elsewhere")
    return _suffer(vm, host, ("lab", "power", host, "off"), ("lab", "power", host, "on"))


def _suffer(vm: str, host: str, fault: tuple[str, ...], repair: tuple[str, ...]) -> dict[str, Any]:
    address = address_of(vm)
    before = guest_state(address)
    zv(*fault)
    after: dict[str, Any] = {}

    def answers_elsewhere() -> bool:
        after.clear()
        after.update(guest_state(address))
        return bool(after) and _host_of(vm) not in {host, ""}

    took_s = wait(f"{vm} to answer from another host", answers_elsewhere, PATIENCE_S)
    zv("host", "list")
    zv("ha", "explain", vm)
    zv(*repair)
    wait(f"{host} to be live again", lambda: _verdict_of(host) == "live", PATIENCE_S)
    return {"vm": vm, "what": " ".join(fault[1:]), "from": host, "to": _host_of(vm), "took_s": took_s,
            "same_boot": before.get("boot_id") == after.get("boot_id")}  # fmt: skip


def _host_of(vm: str) -> str:
    view = as_json("vm", "show", vm)
    return str(view["host"] or "") if view["state"] == "running" else ""


def _verdict_of(host: str) -> str:
    return next(str(h["verdict"]) for h in as_json("host", "list") if h["name"] == host)


def _tell(rows: list[dict[str, Any]]) -> None:
    table = Table(title="What failed, and what became of it", title_style="bold", header_style="bold")
    for title in ("vm", "fault", "ran on", "runs on", "answers after", "memory"):
        table.add_column(title)
    for row in rows:
        memory = "kept" if row["same_boot"] else "lost, booted fresh"
        table.add_row(row["vm"], row["what"], row["from"], row["to"], f"{row['took_s']:.1f} s", memory)
    console.print()
    console.print(table)
    if not rows[0]["same_boot"]:
        raise ProcedureFailed("the isolated host's vm lost its memory", "please report it with the events below")
