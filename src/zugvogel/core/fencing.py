"""What may be asked of a fence agent, and what of it is secret."""

from __future__ import annotations

import re

from zugvogel.domain.host import FenceConfig
from zugvogel.errors import InvalidInput

MASK = "********"
NO_POWER = {
    "fence_dummy": "it cuts nothing",
    "fence_heuristics_ping": "it only pings",
    "fence_ipmilanplus": "there is none: fence_ipmilan with --parameter lanplus=1 is meant",
    "fence_kdump": "it only waits for a crash dump",
    "fence_mpath": "it cuts the way to disks, not the power",
    "fence_sanlock": "it asks the host itself",
    "fence_scsi": "it cuts the way to disks, not the power",
    "fence_watchdog": "it asks the host itself",
}
"""Agents whose "off" does not say that the power is off."""
KEY = re.compile(r"^[a-z][a-z0-9_-]{0,40}$")
SECRET = re.compile(r"passw|passphrase|secret|token|community|api_?key|private_?key")
OURS = {"action", "nodename"}
RUNS_CODE = re.compile(r"_(path|script|options|opts)$|^(debug|debug_file|verbose|verbose_level)$")
"""Parameters that name a program, or make the agent write down its secrets."""


def is_secret(parameter: str) -> bool:
    return SECRET.search(parameter) is not None and not parameter.endswith("_file")


def refuse_unfit(config: FenceConfig) -> None:
    """Raises InvalidInput for what cannot prove that the power is off, or could harm the host that runs it."""
    if why := NO_POWER.get(config.agent):
        raise InvalidInput(f"{config.agent} does not do: {why}", "choose an agent that switches the host's power")
    for name, value in (*config.parameters.items(), *config.secrets.items()):
        _refuse_parameter(name, value)
    if both := config.parameters.keys() & config.secrets.keys():
        raise InvalidInput(f"{', '.join(sorted(both))} is given twice", "give it once")


def _refuse_parameter(name: str, value: str) -> None:
    if not KEY.fullmatch(name):
        raise InvalidInput(
            f"{name[:50]!r} is no parameter of a fence agent", "parameters look like ip, username, plug"
        )
    if name in OURS:
        raise InvalidInput(f"{name} is not a parameter to be set: it is given with each call", "leave it out")
    if RUNS_CODE.search(name):
        raise InvalidInput(
            f"{name} is not taken: the agent would run what it names, or write down passwords", "leave it out"
        )
    if len(value) > 1000 or any(ord(sign) < 32 or ord(sign) == 127 for sign in value):
        raise InvalidInput(f"the value of {name} is longer than 1000 signs or has control signs", "check it")


def sorted_out(config: FenceConfig) -> FenceConfig:
    """Parameters that are secret by their name are kept as secrets."""
    secrets = {name: value for name, value in config.parameters.items() if is_secret(name)}
    open_ones = {name: value for name, value in config.parameters.items() if name not in secrets}
    return config.model_copy(update={"parameters": open_ones, "secrets": {**secrets, **config.secrets}})


def shown(config: FenceConfig) -> dict[str, str]:
    """All parameters, sorted, secrets masked."""
    both = config.parameters | dict.fromkeys(config.secrets, MASK)
    return dict(sorted(both.items()))
