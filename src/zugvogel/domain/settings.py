"""Cluster settings: name, unit, default, bounds and reason of each. Names are VMware's where they exist."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Setting:
    name: str
    default: int | str | bool
    unit: str
    reason: str
    minimum: int | None = None
    maximum: int | None = None


SETTINGS: dict[str, Setting] = {
    s.name: s
    for s in (
        Setting("das.failuredetectioninterval", 1000, "ms",
                "how often agents send heartbeats and write beats (H1)", 200, 10_000),
        Setting("das.failuredetectiontime", 15000, "ms",
                "silence of heartbeat and beat after which a host counts as failed (H5)", 3000, 120_000),
        Setting("migration.tls", True, "", "encrypt the migration stream with the hosts' certificates"),
        Setting("migration.channels", 0, "streams",
                "multifd channels of a live migration; 1 turns multifd off, 0 chooses by the hosts' cores", 0, 16),
        Setting("migration.bandwidthlimit", 0, "MiB/s",
                "limit of the migration stream; 0 is no limit", 0, 100_000),
        Setting("migration.maxdowntime", 300, "ms",
                "the longest switchover a live migration may take without being told otherwise",
                10, 10_000),
        Setting("migration.timeout", 600, "s",
                "a live migration that has not switched over by then is cancelled; the vm stays", 10, 86_400),
        Setting("vm.stoptimeout", 120, "s",
                "how long `vm stop` waits for the guest to power off before it gives up", 1, 3600),
    )
}  # fmt: skip
