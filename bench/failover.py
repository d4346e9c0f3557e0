"""`python -m bench.failover`: from a host's power cut to the restarted vm's first answer to a ping, against the
detection time and the same guest's plain boot in the same run; and what agents of six idle hosts cost.

The bound of a restart is das.failuredetectiontime + the guest's own boot; the ratio to it is what HA adds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import idle, lab
from bench.scenarios import IMAGE
from zugvogel.errors import ProcedureFailed, ZugvogelError
from zugvogel.lab import host as lab_host
from zugvogel.lab.layout import Layout
from zugvogel.lab.ping import ping_from_client

RESULTS = Path(__file__).parent / "results"
HOSTS = 6
PROFILES_S = (15, 3)
LIMIT = 1.15
VM = "bench-ha"
PING_MS = 50.0
PATIENCE_S = 180.0
IDLE_S = 30.0
SETTLE_S = 5.0
console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.failover", description=__doc__)
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="power cuts for each profile (3)")
    parser.add_argument("--profile", type=int, action="append", default=[], metavar="S", help="detection time")
    wish = parser.parse_args(arguments)
    found: dict[int, list[dict[str, float]]] = {}
    cost: idle.Idle | None = None
    try:
        with lab.lab(HOSTS) as layout:
            lab.zv("vm", "create", VM, "--memory", "128M", "--cpus", "1", "--image", IMAGE)
            lab.zv("ha", "enable")
            for detection_s in wish.profile or PROFILES_S:
                lab.zv("settings", "set", "das.failuredetectiontime", str(detection_s * 1000))
                found[detection_s] = [_once(layout, detection_s) for _ in range(wish.repeat)]
            lab.zv("settings", "set", "das.failuredetectiontime", str(PROFILES_S[0] * 1000))
            time.sleep(SETTLE_S)
            cost = idle.measure(layout, IDLE_S)
    except (ZugvogelError, OSError, subprocess.SubprocessError) as error:
        console.print(f"the bench stopped: {str(error) or type(error).__name__}", style="red", markup=False)
        return 1
    finally:
        if found:
            _tell(found, cost)
    return 0


def _once(layout: Layout, detection_s: int) -> dict[str, float]:
    """The plain boot first, then the power of its host is cut."""
    lab.zv("vm", "start", VM, "--on", "host2")
    address = lab.address_of(layout, VM)
    lab.zv("vm", "kill", VM)
    boot_s = _until_answer(layout, address, lambda: lab.zv("vm", "start", VM, "--on", "host2"))
    time.sleep(2.0)
    restart_s = _until_answer(layout, address, lambda: lab_host.power_off(layout, layout.load().host("host2")))
    lab_host.power_on(layout, layout.load().host("host2"))
    _until_live()
    lab.zv("vm", "kill", VM)
    bound = detection_s + boot_s
    return {"boot_s": boot_s, "restart_s": restart_s, "bound_s": bound, "ratio": restart_s / bound}


def _until_answer(layout: Layout, address: str, act: Any) -> float:
    """Seconds from the start of `act` to the first answer to a ping after it went silent."""
    answered = threading.Event()
    began = time.monotonic()
    at: list[float] = []

    def gap(_at_s: float, _gap_ms: float) -> None:
        at.append(time.monotonic())
        answered.set()

    pinger = threading.Thread(
        target=ping_from_client,
        args=(layout, address),
        kwargs={"interval_ms": PING_MS, "seconds": PATIENCE_S, "on_gap": gap, "should_stop": answered.is_set},
        daemon=True,
    )
    pinger.start()
    act()
    if not answered.wait(PATIENCE_S):
        raise ProcedureFailed(f"{VM} did not answer within {PATIENCE_S:.0f} s")
    pinger.join(10.0)
    return at[0] - began


def _until_live() -> None:
    deadline = time.monotonic() + PATIENCE_S
    while any(h["verdict"] != "live" for h in lab.zv("host", "list")):
        if time.monotonic() > deadline:
            raise ProcedureFailed("a host did not come back")
        time.sleep(0.5)


def _tell(found: dict[int, list[dict[str, float]]], cost: idle.Idle | None) -> None:
    table = Table(title="Restart after a power cut", title_justify="left", header_style="bold")
    for title in ("detection time", "boot", "cut to answer", "bound", "ratio", "at most", ""):
        table.add_column(title, justify="right")
    for detection_s, samples in found.items():
        middle = {key: median(s[key] for s in samples) for key in samples[0]}
        table.add_row(
            f"{detection_s} s",
            *(f"{middle[key]:.1f} s" for key in ("boot_s", "restart_s", "bound_s")),
            f"{middle['ratio']:.2f}",
            f"{LIMIT:.2f}",
            "[green]met[/]" if middle["ratio"] <= LIMIT else "[red]not met[/]",
        )
    console.print(table)
    if cost is not None:
        console.print(
            f"{HOSTS} idle hosts, the dearest: {cost.core_percent:.2f} % of a core, {cost.rss_mb:.0f} MB"
        )
    RESULTS.mkdir(exist_ok=True)
    name = f"failover-{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
    kept = {"samples": found, "idle": asdict(cost) if cost else None}
    (RESULTS / name).write_text(json.dumps(kept, indent=1))
    console.print(f"kept in bench/results/{name}")


if __name__ == "__main__":
    sys.exit(main())
