"""What an idle agent costs: CPU time and memory over a while, from /proc."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from bench.processes import cpu_s, rss_mb
from zugvogel.lab import host as lab_host
from zugvogel.lab.layout import Layout


@dataclass(frozen=True, slots=True)
class Idle:
    """The dearest of all agents. `core_percent`: of one core; `etcd_core_percent`: the etcd beside it."""

    core_percent: float
    rss_mb: float
    etcd_core_percent: float
    etcd_rss_mb: float
    seconds: float
    agents: int


def measure(layout: Layout, seconds: float) -> Idle | None:
    """None when no agent runs."""
    names = [host.name for host in layout.load().hosts]
    agents = [pid for name in names if (pid := lab_host.agent_pid(layout, name))]
    etcds = [pid for name in names for pid in lab_host.members(layout, name) if _is_etcd(pid)]
    if not agents:
        return None
    before, began = {pid: cpu_s(pid) for pid in (*agents, *etcds)}, time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    percent = {pid: (cpu_s(pid) - used) / took * 100 for pid, used in before.items()}
    return Idle(
        core_percent=max(percent[p] for p in agents),
        rss_mb=max(rss_mb(p) for p in agents),
        etcd_core_percent=max((percent[p] for p in etcds), default=0.0),
        etcd_rss_mb=max((rss_mb(p) for p in etcds), default=0.0),
        seconds=took,
        agents=len(agents),
    )


def agents_rss_mb(layout: Layout) -> float:
    """Memory of the dearest agent now."""
    pids = [pid for host in layout.load().hosts if (pid := lab_host.agent_pid(layout, host.name))]
    return max((rss_mb(pid) for pid in pids), default=0.0)


def _is_etcd(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == "etcd"
    except OSError:
        return False
