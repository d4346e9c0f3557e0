"""`zv demo`: the whole story on one machine, told with the real commands.

Builds the lab, starts real vms, moves one of them back and forth, live and then through shared storage, while a
client pings it every 10 ms and keeps a TCP connection open, and says what the client saw. Then it cuts a host's
network and another one's power.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.panel import Panel
from rich.table import Table

from zugvogel.cli import demo_failures
from zugvogel.cli.demo_stage import ZV, address_of, console, zv
from zugvogel.errors import ProcedureFailed


def demo(
    hosts: Annotated[int, typer.Option(min=2, max=8, help="Hosts of the lab.")] = 3,
    moves: Annotated[
        int, typer.Option(min=1, max=20, help="How often the vm moves live; one quick migration follows.")
    ] = 2,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the lab up.")] = False,
    link_mbit: Annotated[int, typer.Option(min=0, help="Shape the hosts' links; 0: as fast as it goes.")] = 0,
) -> None:
    """Build a lab, move a vm under load, tell what happened."""
    console.print(
        Panel.fit(
            "[bold]Zugvogel[/] migration and high availability on one machine: real QEMU vms, real etcd, "
            "hosts as namespaces,\na real bridge as the switch. Every line after [bold cyan]$[/] is a command "
            "you can run yourself.",
            border_style="cyan",
        )
    )
    began = time.monotonic()
    try:
        zv("lab", "up", "--hosts", str(hosts), *(["--link-mbit", str(link_mbit)] if link_mbit else []))
        zv("lab", "console")
        zv("host", "list")
        zv("vm", "create", "swallow", "--memory", "256M", "--cpus", "1", "--image", "lab-guest")
        zv("vm", "create", "stork", "--memory", "128M", "--cpus", "1", "--image", "lab-guest")
        zv("vm", "start", "swallow", "--on", "host1")
        zv("vm", "start", "stork", "--on", "host2")
        address = address_of("swallow")
        zv("vm", "list")
        rows = _moves(address, moves)
        demo_failures.perform(saved="stork", restarted="swallow")
        zv("event", "list")
        _verdict(rows, time.monotonic() - began)
    finally:
        if keep:
            console.print("\nThe lab stays up; end it with [cyan]zv lab down[/]. Its web console:")
            zv("lab", "console")
            console.print(
                "Look there while you move a vm: [cyan]zv vm migrate swallow[/] (or press Migrate on its page)."
            )
        else:
            zv("lab", "down")


def _moves(address: str, moves: int) -> list[dict[str, Any]]:
    rows = []
    for number in range(moves + 1):
        target, mode = "host2" if number % 2 == 0 else "host1", "live" if number < moves else "quick"
        how = {"live": "while it runs", "quick": "its memory through shared storage"}[mode]
        console.rule(
            f"[bold]move {number + 1} of {moves + 1}[/], {how}; a ping every 10 ms and an open TCP connection"
        )
        with _continuity(address) as seen, _ping("swallow") as pinged:
            time.sleep(1.0)
            zv("vm", "migrate", "swallow", "--to", target, *(["--mode", mode] if mode != "live" else []))
            time.sleep(1.0)
        rows.append({"to": target, "mode": mode, **seen, "ping": pinged})
        _show_row(rows[-1])
    return rows


@contextmanager
def _continuity(address: str) -> Iterator[dict[str, Any]]:
    """Runs the continuity probe in the client; what it saw is in the dict afterwards."""
    seen: dict[str, Any] = {}
    command = [*ZV, "lab", "client", "--", sys.executable, "-m", "zugvogel.lab.continuity", address]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    seen.update(json.loads(process.stdout.readline() or "{}"))
    try:
        yield seen
    finally:
        out, _ = process.communicate("", timeout=60)
        seen.update(json.loads(out.strip() or "{}"))


@contextmanager
def _ping(vm: str) -> Iterator[dict[str, Any]]:
    """Pings every 10 ms until the block ends; the result is in the dict afterwards."""
    found: dict[str, Any] = {}
    command = [*ZV, "lab", "ping", vm, "--interval-ms", "10", "--seconds", "600", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield found
    finally:
        process.terminate()
        out, _ = process.communicate(timeout=30)
        found.update(json.loads(out or "{}"))


def _show_row(row: dict[str, Any]) -> None:
    ping, connection = row["ping"], row["connection"]
    console.print(
        f"  [bold]seen by the client:[/] {ping['sent']} pings, [bold]{ping['lost']} lost[/], longest gap "
        f"{ping['max_gap_ms']:.0f} ms; TCP connection {'open' if connection['is_open'] else 'BROKEN'}, "
        f"{connection['echoed']} echoes, longest answer {connection['longest_answer_ms']:.0f} ms; "
        f"same boot: {'yes' if row['before']['boot_id'] == row['after']['boot_id'] else 'NO'}"
    )


def _verdict(rows: list[dict[str, Any]], took_s: float) -> None:
    table = Table(title="What the client saw", title_style="bold", header_style="bold")
    for title in ("move", "pings", "lost", "longest gap", "TCP", "same boot", "counter went on"):
        table.add_column(title, justify="right")
    for row in rows:
        ping = row["ping"]
        table.add_row(
            f"{row['mode']} → {row['to']}",
            str(ping["sent"]),
            str(ping["lost"]),
            f"{ping['max_gap_ms']:.0f} ms",
            "kept" if row["connection"]["is_open"] else "[red]broken[/]",
            "yes" if row["before"]["boot_id"] == row["after"]["boot_id"] else "[red]no[/]",
            "yes" if row["after"]["counter"] > row["before"]["counter"] else "[red]no[/]",
        )
    console.print()
    console.print(table)
    console.print(f"[dim]the whole demo took {took_s:.0f} s[/]")
    broken = [r for r in rows if not r["connection"]["is_open"] or r["before"]["boot_id"] != r["after"]["boot_id"]]
    if broken:
        raise ProcedureFailed("a move was felt: see the table", "please report it with the events above")
