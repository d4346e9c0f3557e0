"""Cluster settings: name, unit, default, bounds and reason of each. Names are VMware's where they exist."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

from zugvogel.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Setting:
    """`choices` not empty: the values a text may have. `is_address`: a text that is empty or an IP address."""

    name: str
    default: int | str | bool
    unit: str
    reason: str
    minimum: int | None = None
    maximum: int | None = None
    choices: tuple[str, ...] = ()
    is_address: bool = False


ISOLATION_ADDRESSES = tuple(f"das.isolationaddress{n}" for n in range(1, 11))

SETTINGS: dict[str, Setting] = {
    s.name: s
    for s in (
        Setting("das.enabled", False, "",
                "restart vms of failed hosts and run isolation responses (zv ha enable, zv ha disable)"),
        Setting("das.failuredetectioninterval", 1000, "ms",
                "how often agents send heartbeats and write beats (H1)", 200, 10_000),
        Setting("das.failuredetectiontime", 15000, "ms",
                "silence of heartbeat and beat after which a host counts as failed (H5); the times after which a "
                "host calls itself isolated (12/15) and freezes its vms (0.6) follow it", 3000, 120_000),
        *(
            Setting(name, "", "", "a further address that tells an isolated host from a dead switch; empty: none",
                    is_address=True)
            for name in ISOLATION_ADDRESSES
        ),
        Setting("das.usedefaultisolationaddress", True, "",
                "also ping the default gateway before a host calls itself isolated"),
        Setting("das.isolationresponse", "leave", "",
                "what an isolated host does with vms that do not say it themselves",
                choices=("leave", "shutdown", "poweroff", "suspend")),
        Setting("das.isolationshutdowntimeout", 300, "s",
                "how long a guest may take to shut down as its isolation response; then it is cut", 10, 3600),
        Setting("das.maxvmrestartcount", 5, "attempts",
                "how often the restart of a vm is tried, at 0, 2, 6, 14 and 30 minutes", 1, 100),
        Setting("das.failoverlevel", 1, "hosts",
                "failures of hosts for which room is kept free; 0 turns admission control off", 0, 4),
        Setting("das.perhostconcurrentfailoverslimit", 32, "vms",
                "restarts that one host works on at a time", 1, 256),
        Setting("das.apdtimeout", 140, "s",
                "how long vms stay frozen on a host that lost its storage, before they are given up and restarted "
                "elsewhere; 0: for ever", 0, 86_400),
        Setting("das.vmmonitoring.maxfailures", 3, "restarts",
                "how often a vm that fails by itself is restarted within das.vmmonitoring.window", 1, 100),
        Setting("das.vmmonitoring.window", 3600, "s", "see das.vmmonitoring.maxfailures", 60, 86_400),
        Setting("das.rolepolicy", "static", "",
                "static: a failed primary stays a primary (P5); adaptive: one that stays failed for "
                "das.rolepolicy.replaceafter is replaced by a secondary (P7)", choices=("static", "adaptive")),
        Setting("das.rolepolicy.replaceafter", 600, "s", "see das.rolepolicy", 60, 86_400),
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
        Setting("migration.evacuations", 2, "vms",
                "live migrations at a time when a host is put into maintenance", 1, 16),
        Setting("vm.stoptimeout", 120, "s",
                "how long `vm stop` waits for the guest to power off before it gives up", 1, 3600),
    )
}  # fmt: skip


def refuse_unfit(setting: Setting, value: int | str | bool) -> None:
    """Raises InvalidInput with what is allowed."""
    if type(value) is not type(setting.default):
        raise InvalidInput(f"{setting.name} wants a {type(setting.default).__name__}, not {value!r}")
    if isinstance(value, bool):
        return
    if isinstance(value, int):
        low, high = setting.minimum, setting.maximum
        if (low is not None and value < low) or (high is not None and value > high):
            raise InvalidInput(f"{setting.name} must lie between {low} and {high} {setting.unit}, not {value}")
        return
    if setting.choices and value not in setting.choices:
        raise InvalidInput(f"{setting.name} is one of {', '.join(setting.choices)}, not {value!r}")
    if setting.is_address and value:
        try:
            ip_address(value)
        except ValueError:
            raise InvalidInput(
                f"{value!r} is no IP address", f"e.g. zv settings set {setting.name} 192.0.2.1"
            ) from None
