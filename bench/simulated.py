"""`python -m bench.simulated`: what high availability costs as the cluster grows: the production services of up
to 500 simulated hosts with 20 vms each, nothing happening. Messages and bytes of the busiest primary, and
seconds of CPU for a simulated hour of one host's services. Both must grow no faster than linearly in hosts.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from zugvogel.sim.run import Simulation, rare_collections, start_pause_s
from zugvogel.sim.scenario import HostSpec, Scenario, VmSpec

RESULTS = Path(__file__).parent / "results"
SIZES = (8, 64, 250, 500)
VMS = 20
SETTLE_S = 30.0
SECONDS = 10.0
LINEAR = 1.15
"""Growth of a figure over growth of the hosts that still counts as linear: noise of the machine."""
console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)


@dataclass(frozen=True, slots=True)
class Cost:
    """`received_per_s`, `received_bytes_s`: heartbeats that reach the busiest primary. `cpu_s_per_hour`: of the
    whole cluster, for an hour of its time. `calls_per_s`: RPC, of the whole cluster."""

    hosts: int
    received_per_s: float
    received_bytes_s: float
    calls_per_s: float
    cpu_s_per_hour: float


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.simulated", description=__doc__)
    parser.add_argument("--hosts", type=int, action="append", default=[], metavar="N", help="this size alone")
    parser.add_argument("--vms", type=int, default=VMS, metavar="N", help=f"vms of each host ({VMS})")
    wish = parser.parse_args(arguments)
    costs = []
    for hosts in wish.hosts or SIZES:
        costs.append(measure(hosts, wish.vms))
        console.print(f"{hosts} hosts measured", style="dim")
    _tell(costs)
    return 0


def measure(hosts: int, vms_per_host: int, seconds: float = SECONDS) -> Cost:
    """Once all vms run, over `seconds` of the cluster's time."""
    count = hosts * vms_per_host
    settle_s = SETTLE_S + count * start_pause_s(count)
    simulation = Simulation(
        Scenario(
            title=f"{hosts} hosts, nothing happens",
            horizon_s=settle_s + seconds,
            hosts=(HostSpec(name="host", count=hosts, cpus=64, memory_mib=262_144),),
            vms=(VmSpec(name="vm", count=count),),
        )
    )
    with rare_collections():
        simulation.run_until(settle_s)
        traffic = simulation.world.traffic
        heartbeats, size, calls = traffic.heartbeats, traffic.heartbeat_bytes, traffic.calls
        received, began = dict(traffic.received_by), time.process_time()
        simulation.run_until(settle_s + seconds)
        cpu_s = time.process_time() - began
    simulation.close()
    busiest = max(count - received.get(host, 0) for host, count in traffic.received_by.items())
    mean_bytes = (traffic.heartbeat_bytes - size) / max(1, traffic.heartbeats - heartbeats)
    return Cost(
        hosts=hosts,
        received_per_s=busiest / seconds,
        received_bytes_s=busiest / seconds * mean_bytes,
        calls_per_s=(traffic.calls - calls) / seconds,
        cpu_s_per_hour=cpu_s / seconds * 3600,
    )


def _tell(costs: list[Cost]) -> None:
    table = Table(title="Idle clusters, simulated", title_justify="left", header_style="bold")
    for title in (
        "hosts",
        "heartbeats/s at a primary",
        "bytes/s",
        "calls/s",
        "CPU s an hour",
        "of it a host",
        "linear",
    ):
        table.add_column(title, justify="right")
    first = costs[0]
    for cost in costs:
        growth = cost.hosts / first.hosts
        is_linear = all(
            now <= LINEAR * growth * before
            for now, before in (
                (cost.received_per_s, first.received_per_s),
                (cost.received_bytes_s, first.received_bytes_s),
                (cost.cpu_s_per_hour, first.cpu_s_per_hour),
            )
        )
        table.add_row(
            str(cost.hosts),
            f"{cost.received_per_s:.0f}",
            f"{cost.received_bytes_s:.0f}",
            f"{cost.calls_per_s:.1f}",
            f"{cost.cpu_s_per_hour:.0f}",
            f"{cost.cpu_s_per_hour / cost.hosts:.2f}",
            "[green]yes[/]" if is_linear else "[red]no[/]",
        )
    console.print(table)
    RESULTS.mkdir(exist_ok=True)
    name = f"simulated-{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
    (RESULTS / name).write_text(json.dumps([asdict(cost) for cost in costs], indent=1))
    console.print(f"kept in bench/results/{name}")


if __name__ == "__main__":
    sys.exit(main())
