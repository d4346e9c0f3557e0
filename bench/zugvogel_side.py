"""Zugvogel as a user drives it: `zv vm migrate NAME --to HOST`."""

from __future__ import annotations

import time

from bench import lab
from bench.contender import other
from bench.sample import Sample
from bench.scenarios import IMAGE, MEMORY_MIB, SOURCE, ZUGVOGEL_ONE, ZUGVOGEL_PLAIN, ZUGVOGEL_TLS
from zugvogel.lab import api_calls
from zugvogel.lab.layout import Layout

NAME = "bench"
OPTIONS = {
    ZUGVOGEL_TLS: ("--tls",),
    ZUGVOGEL_PLAIN: ("--no-tls",),
    ZUGVOGEL_ONE: ("--tls", "--channels", "1"),
}


class ZugvogelSide:
    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        lab.zv("vm", "create", NAME, "--memory", f"{MEMORY_MIB}M", "--cpus", "1", "--image", IMAGE)
        lab.zv("vm", "start", NAME, "--on", SOURCE)
        self._address = lab.address_of(layout, NAME)

    @property
    def address(self) -> str:
        return self._address

    @property
    def cpu_model(self) -> str:
        """The baseline the cluster chose: the other contenders' guests get the same."""
        view = api_calls.call(self._layout, "GET", f"/vms/{NAME}")
        return str(view["definition"]["cpu_model"])

    def _host(self) -> str:
        return str(api_calls.call(self._layout, "GET", f"/vms/{NAME}")["host"])

    def qemu_pid(self) -> int | None:
        return lab.qemu_pid(self._layout, self._host(), NAME)

    def move(self, row: str, sample: Sample) -> None:
        """`wall_s` is the command's, start of the client's process included."""
        target = other(self._host())
        began = time.monotonic()
        report = lab.zv("vm", "migrate", NAME, "--to", target, *OPTIONS[row], timeout_s=lab.MOVE_S)
        sample.wall_s = time.monotonic() - began
        sample.total_s = report["total_s"]
        sample.phases = {phase["name"]: round(phase["duration_s"], 4) for phase in report["phases"]}
        sample.stream_s = sample.phases.get("precopy")
        sample.downtime_ms = report["downtime_ms"]
        sample.sent_bytes = report["transferred_bytes"]
        sample.first_byte_s = report["request_to_first_byte_s"]
        sample.rounds = len(report["rounds"])

    def close(self) -> None:
        """The lab's end is the guest's end."""
