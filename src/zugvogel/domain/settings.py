"""Cluster settings: name, unit, default, bounds and reason of each. Names are VMware's where they exist."""

from __future__ import annotations

from collections.abc import Callable
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


ENABLED = "das.enabled"
INTERVAL = "das.failuredetectioninterval"
DETECTION_TIME = "das.failuredetectiontime"
SESSION_HOURS = "console.session_hours"
SIGNS = 15
"""Signs of life that a host must be able to give within the detection time: the parts of it that are judged apart
(0.2, 0.6) must hold several, or one late write would freeze its vms."""

Value = int | str | bool

ISOLATION_ADDRESSES = tuple(f"das.isolationaddress{n}" for n in range(1, 11))

SETTINGS: dict[str, Setting] = {
    s.name: s
    for s in (
        Setting(ENABLED, False, "",
                "restart vms of failed hosts and run isolation responses (zv ha enable, zv ha disable)"),
        Setting(INTERVAL, 1000, "ms",
                "how often agents send heartbeats and write beats (H1); never rarer than a fifteenth of "
                "das.failuredetectiontime, whatever it is set to", 200, 10_000),
        Setting(DETECTION_TIME, 15000, "ms",
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
                "elsewhere (never where nothing tells when their last writes are over: NFS v3, OCFS2 with o2cb, a "
                "disk with the cache mode writeback); 0: for ever", 0, 86_400),
        Setting("das.vmmonitoring.maxfailures", 3, "restarts",
                "how often a vm that fails by itself is restarted within das.vmmonitoring.window", 1, 100),
        Setting("das.vmmonitoring.window", 3600, "s", "see das.vmmonitoring.maxfailures", 60, 86_400),
        Setting("das.vmmonitoring.failureinterval", 30, "s",
                "how long a guest's agent that has answered before may be silent, where the vm's monitoring is "
                "guest",
                10, 3600),
        Setting("das.vmmonitoring.iostatsinterval", 120, "s",
                "how long a silent guest must also have used no disk and sent nothing before it counts as dead; "
                "0: that is not looked at", 0, 3600),
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
        Setting(SESSION_HOURS, 12, "h",
                "how long a user stays logged in; made shorter it ends older sessions too, made longer it counts "
                "from the next login", 1, 720),
        Setting("vm.stoptimeout", 120, "s",
                "how long `vm stop` waits for the guest to power off before it gives up", 1, 3600),
    )
}  # fmt: skip


def longest_interval_ms(detection_time_ms: int) -> int:
    return detection_time_ms // SIGNS


def in_effect(name: str, value: Value, current: Callable[[str], Value]) -> Value:
    """What a setting that is set to `value` comes to beside the others."""
    if name == INTERVAL:
        return min(int(value), longest_interval_ms(int(current(DETECTION_TIME))))
    return value


def refuse_unfit(setting: Setting, value: Value, current: Callable[[str], Value]) -> None:
    """Raises InvalidInput with what is allowed. `current`: the values of the other settings now."""
    if type(value) is not type(setting.default):
        raise InvalidInput(f"{setting.name} takes {allowed(setting)}, not {value!r}", f"e.g. {example(setting)}")
    if isinstance(value, bool):
        return
    if isinstance(value, int):
        _refuse_number(setting, value, current)
    elif setting.choices and value not in setting.choices:
        raise InvalidInput(f"{setting.name} takes {allowed(setting)}, not {value!r}", f"e.g. {example(setting)}")
    elif setting.is_address and value:
        _refuse_address(setting, value)


def _refuse_number(setting: Setting, value: int, current: Callable[[str], Value]) -> None:
    low, high = setting.minimum, setting.maximum
    if (low is not None and value < low) or (high is not None and value > high):
        raise InvalidInput(f"{setting.name} takes {allowed(setting)}, not {value}", f"e.g. {example(setting)}")
    if setting.name == INTERVAL and value > (most := longest_interval_ms(int(current(DETECTION_TIME)))):
        raise InvalidInput(
            f"{INTERVAL} can be at most a fifteenth of {DETECTION_TIME} ({current(DETECTION_TIME)} ms): "
            f"{most} ms, not {value}",
            f"choose at most {most}, or raise {DETECTION_TIME} first",
        )


def _refuse_address(setting: Setting, value: str) -> None:
    try:
        ip_address(value)
    except ValueError:
        raise InvalidInput(
            f"{setting.name} takes {allowed(setting)}, not {value!r}", f"e.g. {example(setting)}"
        ) from None


def allowed(setting: Setting) -> str:
    """What may be set, for people: "200 to 10000 ms"."""
    if isinstance(setting.default, bool):
        return "on or off"
    if isinstance(setting.default, int):
        return f"{setting.minimum} to {setting.maximum} {setting.unit}".rstrip()
    if setting.choices:
        return ", ".join(setting.choices[:-1]) + f" or {setting.choices[-1]}"
    return "an IP address, or nothing" if setting.is_address else "a text"


def example(setting: Setting) -> str:
    value: object = setting.default
    if isinstance(value, bool):
        value = "on"
    elif setting.is_address:
        value = "192.0.2.1"
    return f"zv settings set {setting.name} {value}"
