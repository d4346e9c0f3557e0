"""`python -m bench [--quick] [--only SCENARIO]... [--without-libvirt]`, as root, from the checkout's root."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import idle, lab, tables, targets
from bench.contender import Contender
from bench.libvirt_side import LibvirtSide
from bench.measuring import Measuring
from bench.raw_side import RawSide
from bench.results import Results
from bench.scenarios import (
    LIBVIRT,
    LIBVIRT_30,
    RAW,
    RAW_MANY,
    SCENARIOS,
    ZUGVOGEL_ONE,
    ZUGVOGEL_PLAIN,
    ZUGVOGEL_TLS,
)
from bench.zugvogel_side import ZugvogelSide
from zugvogel.errors import Refused, ZugvogelError
from zugvogel.lab.layout import Layout

RESULTS = Path(__file__).parent / "results"
PACKAGES = Path(__file__).parent.parent / "scripts" / "bench_packages.sh"
MOVES_S = 13 * 60.0
"""No move begins later than this after the first: `make bench` ends within a quarter of an hour."""
IDLE_S, QUICK_IDLE_S = 30.0, 8.0
console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)


def main(arguments: Sequence[str] | None = None) -> int:
    wish = _parser().parse_args(arguments)
    began, results = time.monotonic(), Results()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # everything is taken down then, too
    try:
        if os.geteuid() != 0:
            raise Refused("the bench makes namespaces and taps: it needs root", "run `make bench`")
        _measure(wish, results)
    except KeyboardInterrupt:
        console.print("interrupted; the lab is gone")
        return 130
    except (ZugvogelError, OSError, subprocess.SubprocessError) as error:
        console.print(f"the bench stopped: {error}", style="red", markup=False)
        if results.samples:
            _tell(results, time.monotonic() - began)
        return 1
    _tell(results, time.monotonic() - began)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure live migration, in ratios.")
    names = [s.name for s in SCENARIOS]
    parser.add_argument("--quick", action="store_true", help="every figure once, not three times")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="how often each figure is taken (3)")
    parser.add_argument("--only", action="append", choices=names, default=[], help="this scenario alone")
    parser.add_argument("--streams", action="store_true", help="two rows more: one stream against four")
    parser.add_argument("--without-libvirt", action="store_true", help="leave libvirt out")
    return parser


def _measure(wish: argparse.Namespace, results: Results) -> None:
    if not wish.without_libvirt:
        _install_libvirt()
    with ExitStack() as stack:
        layout = stack.enter_context(lab.lab())
        zugvogel = ZugvogelSide(layout)
        results.machine = _machine()
        time.sleep(5.0)  # the guest has booted, the cluster has settled
        results.idle = idle.measure(layout, QUICK_IDLE_S if wish.quick else IDLE_S)
        rows: dict[str, Contender] = {ZUGVOGEL_TLS: zugvogel, ZUGVOGEL_PLAIN: zugvogel}
        raw = RawSide(layout, zugvogel.cpu_model)
        stack.callback(raw.close)
        rows[RAW] = raw
        if wish.streams:
            rows |= {ZUGVOGEL_ONE: zugvogel, RAW_MANY: raw}
        if not wish.without_libvirt and (libvirt := _libvirt(layout, zugvogel.cpu_model)) is not None:
            stack.callback(libvirt.close)
            rows |= {LIBVIRT: libvirt, LIBVIRT_30: libvirt}
        chosen = [s for s in SCENARIOS if not wish.only or s.name in wish.only]
        measuring = Measuring(layout, rows, console.print, until=time.monotonic() + MOVES_S)
        for scenario in chosen:
            measuring.run(scenario, 1 if wish.quick else wish.repeat, results)


def _libvirt(layout: Layout, cpu_model: str) -> LibvirtSide | None:
    """None, and why, where it cannot be had: the other rows are worth measuring without it."""
    try:
        return LibvirtSide(layout, cpu_model)
    except ZugvogelError as error:
        console.print(f"libvirt is left out: {error}", style="yellow", markup=False)
        return None


def _install_libvirt() -> None:
    try:
        subprocess.run([str(PACKAGES)], check=True, timeout=600)
    except (OSError, subprocess.SubprocessError) as error:
        console.print(f"libvirt's packages are not installed: {error}", style="yellow", markup=False)


def _tell(results: Results, took_s: float) -> None:
    checks = targets.judge(results.samples, results.idle)
    tables.show(console, results, checks)
    RESULTS.mkdir(exist_ok=True)
    at = datetime.now(UTC)
    file = RESULTS / f"{at:%Y%m%dT%H%M%SZ}.json"
    document = results.as_dict(checks, at.isoformat(timespec="seconds"), took_s)
    file.write_text(json.dumps(document, indent=1) + "\n")
    file.with_suffix(".md").write_text(tables.markdown(results, checks))
    console.print(f"{took_s:.0f} s in all; every sample: bench/results/{file.name}; the tables: {file.stem}.md")


def _machine() -> dict[str, Any]:
    from bench.guests import accelerator

    return {
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "accelerator": accelerator(),
        "qemu": _version("qemu-system-x86_64"),
        "libvirt": _version("libvirtd"),
        "load_before": round(os.getloadavg()[0], 2),
    }


def _version(program: str) -> str:
    try:
        out = subprocess.run([program, "--version"], capture_output=True, text=True, check=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
    return out.splitlines()[0] if out else ""


if __name__ == "__main__":
    sys.exit(main())
