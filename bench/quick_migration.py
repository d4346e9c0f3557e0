"""`python -m bench.quick_migration`: quick migration, suspend and resume against the disk, the bare QMP sequence
and libvirt, in one run.

Everything goes to the same datastore, in turns; through the mounts of the lab's hosts but for the bare sequence,
which goes to the file system under them. Streamed migrations run with the target's network cut.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import guests, lab
from bench.contender import other
from bench.idle import agents_rss_mb
from bench.libvirt_side import ADDRESS, LibvirtSide
from bench.raw_side import RawSide
from bench.scenarios import IMAGE, SOURCE
from zugvogel.errors import ProcedureFailed, ZugvogelError
from zugvogel.lab import api_calls, switch
from zugvogel.lab import host as lab_host
from zugvogel.lab.layout import Layout

RESULTS = Path(__file__).parent / "results"
DATASTORE = "/srv/shared"
GUESTS = {"512M": (512, 320), "2G": (2048, 1792), "4G": (4096, 3840), "4G-idle": (4096, 0)}
"""name -> (MiB of memory, MiB filled with incompressible data)."""
SETTLE_S = 2.0
FILL_S = 420.0
TOUCH = """
import mmap, sys, time
size = int(sys.argv[1]); began = time.monotonic()
with mmap.mmap(-1, size) as memory:
    for at in range(0, size, 4096):
        memory[at] = 1
print(time.monotonic() - began)
"""
console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.quick_migration", description=__doc__)
    parser.add_argument("--only", action="append", choices=list(GUESTS), default=[], help="this guest alone")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="how often each figure is taken (3)")
    parser.add_argument("--without-libvirt", action="store_true", help="leave libvirt out")
    wish = parser.parse_args(arguments)
    found: dict[str, list[dict[str, float]]] = {}
    try:
        with lab.lab() as layout:
            for name in wish.only or GUESTS:
                found[name] = _guest(layout, name, wish.repeat, with_libvirt=not wish.without_libvirt)
    except (ZugvogelError, OSError, subprocess.SubprocessError) as error:
        console.print(f"the bench stopped: {str(error) or type(error).__name__}", style="red", markup=False)
        return 1
    finally:
        if found:
            _tell(found)
    return 0


def _guest(layout: Layout, name: str, repeat: int, *, with_libvirt: bool) -> list[dict[str, float]]:
    memory_mib, fill_mib = GUESTS[name]
    vm = f"quick-{name.lower()}"
    lab.zv("vm", "create", vm, "--memory", f"{memory_mib}M", "--cpus", "1", "--image", IMAGE)
    lab.zv("vm", "start", vm, "--on", SOURCE)
    samples = []
    with ExitStack() as stack:
        stack.callback(_remove, vm)
        address = lab.address_of(layout, vm)
        _fill(layout, address, fill_mib)
        cpu_model = str(api_calls.call(layout, "GET", f"/vms/{vm}")["definition"]["cpu_model"])
        raw = RawSide(layout, cpu_model, memory_mib)
        stack.callback(raw.close)
        _fill(layout, raw.address, fill_mib)
        libvirt = None
        if with_libvirt:
            libvirt = LibvirtSide(layout, cpu_model, memory_mib)
            stack.callback(libvirt.close)
            _fill(layout, ADDRESS, fill_mib)
        for number in range(repeat):
            sample = _sample(layout, vm, raw, libvirt)
            samples.append(sample)
            console.print(f"{name} {number + 1}. " + ", ".join(f"{k} {v:.2f}" for k, v in sample.items()))
    return samples


def _remove(vm: str) -> None:
    lab.zv("vm", "kill", vm)
    lab.zv("vm", "delete", vm, "--yes")


def _fill(layout: Layout, address: str, fill_mib: int) -> None:
    """Returns when the guest has filled that much."""
    guests.ask(layout, address, f"/load?fill_mb={fill_mib}", 90.0)
    deadline = time.monotonic() + FILL_S
    while guests.fill_bytes(layout, address) < fill_mib << 20:
        if time.monotonic() > deadline:
            raise ProcedureFailed(f"the guest did not fill {fill_mib} MiB within {FILL_S:.0f} s")
        time.sleep(1.0)


def _sample(layout: Layout, vm: str, raw: RawSide, libvirt: LibvirtSide | None) -> dict[str, float]:
    """Seconds, and MB where it says so."""
    rss_before = agents_rss_mb(layout)
    host = str(api_calls.call(layout, "GET", f"/vms/{vm}")["host"])
    time.sleep(SETTLE_S)
    move = ["vm", "migrate", vm, "--mode", "quick", "--stop-first", "--to", other(host)]
    quick = lab.zv(*move, timeout_s=lab.MOVE_S)
    time.sleep(SETTLE_S)
    streamed = _streamed(layout, vm, host)
    time.sleep(SETTLE_S)
    suspend = lab.zv("vm", "suspend", vm, timeout_s=lab.MOVE_S)
    time.sleep(SETTLE_S)
    resume = lab.zv("vm", "resume", vm, "--on", host, timeout_s=lab.MOVE_S)
    size = int(suspend["transferred_bytes"])
    written, read = _disk(layout, host, size)
    sample = {
        "file_mb": size / 1e6,
        "outage": quick["outage_ms"] / 1000,
        "quick_load": _phases(quick, "load"),
        "total": quick["total_s"],
        "streamed_outage": streamed["outage_ms"] / 1000,
        "streamed_total": streamed["total_s"],
        "streamed_mb": streamed["transferred_bytes"] / 1e6,
        "save": _phases(suspend, "suspend", "durable"),
        "load": _phases(resume, "load"),
        "dd_write": written,
        "dd_read": read,
        "first_touch": _first_touch(size),
        "agent_growth_mb": max(0.0, agents_rss_mb(layout) - rss_before),
    }
    sample["raw_outage"] = raw.save_and_load(layout.shared / "bench.raw")
    (layout.shared / "bench.raw").unlink()
    if libvirt is not None:
        sample["virsh_save"], sample["virsh_restore"] = libvirt.save_and_restore(f"{DATASTORE}/bench.save")
        (layout.shared / "bench.save").unlink()
    return sample


def _streamed(layout: Layout, vm: str, target: str) -> dict[str, Any]:
    """The report of a streamed quick migration during which no network leads to the target."""
    wish = {"mode": "quick", "target": target, "save": {"is_streamed": True}}
    task = str(api_calls.call(layout, "POST", f"/vms/{vm}/migrate", wish, timeout_s=60.0)["id"])
    deadline = time.monotonic() + lab.MOVE_S
    while (found := api_calls.call(layout, "GET", f"/tasks/{task}"))["progress"]["phase"] not in {
        "stream",
        "suspend",
    }:
        if found["state"] not in {"queued", "running"} or time.monotonic() > deadline:
            raise ProcedureFailed(f"the streamed move did not begin to stream: {found['error']}")
        time.sleep(0.02)
    cable = layout.load().host(target)
    switch.set_cut(layout, cable, is_cut=True)
    try:
        while (found := api_calls.call(layout, "GET", f"/tasks/{task}"))["state"] == "running":
            if time.monotonic() > deadline:
                raise ProcedureFailed("the streamed move did not end")
            time.sleep(0.25)
    finally:
        switch.set_cut(layout, cable, is_cut=False)
    if found["state"] != "done" or not found["report"]["is_streamed"]:
        raise ProcedureFailed(f"the streamed move ended otherwise: {found['error'] or found['report']}")
    return dict(found["report"])


def _phases(report: dict[str, Any], *names: str) -> float:
    return float(sum(p["duration_s"] for p in report["phases"] if p["name"] in names))


def _disk(layout: Layout, host: str, size: int) -> tuple[float, float]:
    """Seconds that dd takes to write and to read as many bytes on the datastore, past the page cache."""
    file, count = f"{DATASTORE}/bench.dd", str(max(1, size >> 20))
    try:
        began = time.monotonic()
        lab_host.execute(
            layout,
            host,
            ["dd", "if=/dev/zero", f"of={file}", "bs=1M", f"count={count}", "oflag=direct", "conv=fdatasync"],
        )
        written = time.monotonic() - began
        began = time.monotonic()
        lab_host.execute(layout, host, ["dd", f"if={file}", "of=/dev/null", "bs=1M", "iflag=direct"])
        return written, time.monotonic() - began
    finally:
        (layout.shared / "bench.dd").unlink(missing_ok=True)


def _first_touch(size: int) -> float:
    """Seconds until a process has touched that much fresh memory."""
    command = [sys.executable, "-c", TOUCH, str(size)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return float(done.stdout)


def _tell(found: dict[str, list[dict[str, float]]]) -> None:
    rows = {name: _judged(samples) for name, samples in found.items() if samples}
    figures = list(next(iter(rows.values())))
    cells = [[f"{row[f]:.2f}" if f in row else "–" for row in rows.values()] for f in figures]
    table = Table(title="Quick migration, medians")
    table.add_column("seconds, MB, ratios")
    for name in rows:
        table.add_column(name, justify="right")
    for figure, line in zip(figures, cells, strict=True):
        table.add_row(figure, *line)
    console.print(table)
    RESULTS.mkdir(exist_ok=True)
    at = datetime.now(UTC)
    file = RESULTS / f"quick-{at:%Y%m%dT%H%M%SZ}.json"
    file.write_text(json.dumps({"at": at.isoformat(), "samples": found, "medians": rows}, indent=1) + "\n")
    lines = ["| | " + " | ".join(rows) + " |", "| --- |" + " --: |" * len(rows)]
    lines += [f"| {figure} | " + " | ".join(line) + " |" for figure, line in zip(figures, cells, strict=True)]
    file.with_suffix(".md").write_text("\n".join(lines) + "\n")


def _judged(samples: list[dict[str, float]]) -> dict[str, float]:
    """Medians, and the ratios that have targets: save/dd (1.5), load/limit (1.3), outage/virsh (0.7). The streamed
    outage has one of its own, 0.5 s whatever the size."""
    row = {key: median(s[key] for s in samples) for key in samples[0]}
    row["save/dd"] = row["save"] / row["dd_write"]
    row["load/limit"] = row["load"] / max(row["dd_read"], row["first_touch"])
    if "virsh_save" in row:
        row["outage/virsh"] = row["outage"] / (row["virsh_save"] + row["virsh_restore"])
    return row


if __name__ == "__main__":
    sys.exit(main())
