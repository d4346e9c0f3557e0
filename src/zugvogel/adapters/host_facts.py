"""What this host is: CPU, memory, load from /proc; bridges and link speed from the network port.

/proc never blocks, so it is read in the loop; one read costs well under a millisecond.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from zugvogel.domain.host import CpuFacts, HostFacts
from zugvogel.domain.overrides import CpuOverrides, Overrides
from zugvogel.ports.network import HostNetwork

_ARM_KEYS = {"vendor_id": "CPU implementer", "cpu family": "CPU architecture", "flags": "Features"}


class ProcHostFacts:
    """Facts of this host with `overrides` (read anew each time) applied. `address` is the host's own: the
    link that carries it gives `link_mbit`."""

    def __init__(
        self,
        *,
        network: HostNetwork | None,
        address: str,
        overrides: Callable[[], Overrides] = Overrides,
        qemu_version: str = "",
        accelerator: str = "tcg",
        agent_version: str = "",
        proc: Path = Path("/proc"),
    ) -> None:
        self._network = network
        self._address = address
        self._overrides = overrides
        self._qemu_version = qemu_version
        self._accelerator = accelerator
        self._agent_version = agent_version
        self._proc = proc
        self._cpu: tuple[CpuFacts, int] | None = None

    async def facts(self) -> HostFacts:
        overrides = self._overrides()
        if self._cpu is None:
            self._cpu = parse_cpuinfo((self._proc / "cpuinfo").read_text())
        cpu, cores = self._cpu
        bridges = await self._network.bridges() if self._network else []
        link_mbit = overrides.link_mbit
        if link_mbit is None:
            link_mbit = await self._network.link_mbit(self._address) if self._network else 0
        return HostFacts(
            cpu=_overridden(cpu, overrides.cpu),
            cores=overrides.cores or cores,
            memory_total_bytes=overrides.memory_bytes or self._meminfo()["MemTotal"],
            link_mbit=link_mbit,
            bridges=tuple(sorted(bridges, key=lambda bridge: bridge.name)),
            vlan_overrides=dict(overrides.vlans),
            qemu_version=self._qemu_version,
            accelerator=self._accelerator,
            agent_version=self._agent_version,
        )

    def load(self) -> tuple[float, int]:
        """(load of one minute, bytes of memory available; never more than the overridden total)."""
        load1 = float((self._proc / "loadavg").read_text().split()[0])
        available = self._meminfo()["MemAvailable"]
        total = self._overrides().memory_bytes
        return load1, min(available, total) if total else available

    def _meminfo(self) -> dict[str, int]:
        """MemTotal and MemAvailable in bytes."""
        found = {}
        with (self._proc / "meminfo").open() as lines:
            for line in lines:
                key, _, value = line.partition(":")
                if key in {"MemTotal", "MemAvailable"}:
                    found[key] = int(value.split()[0]) * 1024
                if len(found) == 2:
                    break
        return found


def parse_cpuinfo(text: str) -> tuple[CpuFacts, int]:
    """Facts of the first CPU and the number of logical CPUs. Raises ValueError on a text without any."""
    blocks = [block for block in text.strip().split("\n\n") if block.startswith("processor")]
    if not blocks:
        raise ValueError("cpuinfo names no processor")
    first = {}
    for line in blocks[0].splitlines():
        key, _, value = line.partition(":")
        first[key.strip()] = value.strip()

    def field(key: str, default: str = "0") -> str:
        return first.get(key) or first.get(_ARM_KEYS.get(key, ""), default)

    cpu = CpuFacts(
        vendor=field("vendor_id", "unknown"),
        family=int(field("cpu family"), 0),
        model=int(field("model"), 0),
        stepping=_int(field("stepping")),
        name=field("model name", "unknown"),
        flags=frozenset(field("flags", "").split()),
    )
    return cpu, len(blocks)


def _int(text: str) -> int:
    """Some hypervisors hide the stepping behind the word "unknown"."""
    return int(text) if text.isdigit() else 0


def _overridden(cpu: CpuFacts, overrides: CpuOverrides) -> CpuFacts:
    given = overrides.model_dump(exclude_none=True, exclude={"without_flags"})
    flags = frozenset(given.get("flags", cpu.flags)) - overrides.without_flags
    return cpu.model_copy(update={**given, "flags": flags})
