"""Where everything of a lab is: paths, addresses, names, and what was asked for (`LabState`).

Stdlib only: the init of every host imports this module and lives as long as the host does.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path

from zugvogel.errors import InvalidInput, NotFound, Refused

DEFAULT_ROOT = Path("/var/lib/zugvogel-lab")
ROOT_VARIABLE = "ZUGVOGEL_LAB_ROOT"
MARK_VARIABLE = "ZUGVOGEL_LAB"
"""Set to the lab's root in the environment of every process of a lab, so that `down` finds them all."""
AGENT_VARIABLE = "ZUGVOGEL_LAB_AGENT_COMMAND"
"""Tests only: a shell-quoted command that runs in place of the agent."""

SHARED_IN_HOST = Path("/srv/shared")
BRIDGE, UPLINK = "br0", "up0"
SWITCH, CLIENT = "switch", "client"
GATEWAYS = ("192.0.2.1", "198.51.100.1")
CLIENT_ADDRESSES = ("192.0.2.250", "198.51.100.250")
MAX_HOSTS = 64
HOST_NAME = re.compile(r"^[a-z0-9]([a-z0-9-]{0,9}[a-z0-9])?$")
"""At most 11 characters: ``p-<host>`` must be an interface name."""


@dataclass(slots=True)
class LabHost:
    """`link_mbit` 0: not shaped. `cores`, `memory_bytes` 0: what the machine has. `group`: number of the
    switch bridge its port is on (0 has the gateway and the client)."""

    name: str
    ordinal: int
    link_mbit: int = 0
    cores: int = 0
    memory_bytes: int = 0
    group: int = 0
    is_cut: bool = False

    @property
    def address(self) -> str:
        return f"192.0.2.{10 + self.ordinal}"

    @property
    def mac(self) -> str:
        return f"02:7a:76:00:00:{self.ordinal:02x}"

    @property
    def port(self) -> str:
        return f"p-{self.name}"


@dataclass(slots=True)
class LabState:
    """What was asked for. What is (power, hangs, mounts) is read from the kernel, never from here."""

    hosts: list[LabHost] = field(default_factory=list)
    is_cluster: bool = True
    is_complete: bool = False
    """False while `up` works, and for ever when it was cut short."""

    def host(self, name: str) -> LabHost:
        for host in self.hosts:
            if host.name == name:
                return host
        names = ", ".join(h.name for h in self.hosts)
        raise NotFound(f"the lab has no host {name}", f"its hosts are {names}")


@dataclass(frozen=True, slots=True)
class HostPaths:
    base: Path

    @property
    def etc(self) -> Path:
        return self.base / "etc"

    @property
    def var(self) -> Path:
        return self.base / "var"

    @property
    def log(self) -> Path:
        return self.base / "log"

    @property
    def agent_toml(self) -> Path:
        return self.etc / "agent.toml"

    @property
    def init_pid(self) -> Path:
        return self.base / "init.pid"

    @property
    def agent_pid(self) -> Path:
        """Pid inside the host's pid namespace."""
        return self.base / "agent.pid"

    @property
    def hung(self) -> Path:
        """Processes that `hang` stopped: pid -> start time."""
        return self.base / "hung.json"

    @property
    def hold(self) -> Path:
        return self.base / "agent.hold"


@dataclass(frozen=True, slots=True)
class Layout:
    root: Path

    @classmethod
    def from_environment(cls) -> Layout:
        """Raises InvalidInput for a root that cannot work."""
        root = Path(os.environ.get(ROOT_VARIABLE) or DEFAULT_ROOT)
        if not root.is_absolute() or len(root.parts) < 3 or root.parts[1] in ("run", "proc", "sys", "dev"):
            raise InvalidInput(
                f"{ROOT_VARIABLE}={root} cannot be a lab root",
                "name an absolute path below a directory, not below /run, /proc, /sys or /dev",
            )
        return cls(Path(os.path.normpath(root)))

    @property
    def prefix(self) -> str:
        """Prefix of the names of network namespaces. Two labs with other roots never share one."""
        if self.root == DEFAULT_ROOT:
            return "zvl-"
        return f"zvl{hashlib.sha256(os.fsencode(self.root)).hexdigest()[:6]}-"

    def netns(self, name: str) -> str:
        return self.prefix + name

    def netns_path(self, name: str) -> Path:
        return Path("/run/netns") / self.netns(name)

    def host(self, name: str) -> HostPaths:
        return HostPaths(self.root / "hosts" / name)

    @property
    def shared(self) -> Path:
        return self.root / "shared"

    @property
    def state_file(self) -> Path:
        return self.root / "state.json"

    @property
    def token_file(self) -> Path:
        return self.root / "token"

    @property
    def ca_file(self) -> Path:
        return self.root / "ca.crt"

    @property
    def door_file(self) -> Path:
        """Address, user and password of the console, for `zv lab console`."""
        return self.root / "console.json"

    @property
    def mark(self) -> Path:
        """Exists in every lab root from the first moment: nothing without it is ever removed."""
        return self.root / ".zugvogel-lab"

    @property
    def lock(self) -> Path:
        return Path("/run") / f"{self.prefix}lock"

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, MARK_VARIABLE: str(self.root), ROOT_VARIABLE: str(self.root)}

    def load(self) -> LabState:
        """Raises Refused when there is no lab."""
        try:
            data = json.loads(self.state_file.read_text())
        except FileNotFoundError:
            raise Refused("no lab is up", "start one with `zv lab up --hosts 3`") from None
        return LabState(
            hosts=[LabHost(**host) for host in data["hosts"]],
            is_cluster=data["is_cluster"],
            is_complete=data["is_complete"],
        )

    def save(self, state: LabState) -> None:
        temporary = self.state_file.with_suffix(".new")
        temporary.write_text(json.dumps(asdict(state), indent=1))
        temporary.replace(self.state_file)
