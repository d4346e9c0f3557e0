from pathlib import Path

import pytest

from zugvogel.adapters.host_facts import ProcHostFacts, parse_cpuinfo
from zugvogel.domain.host import BridgeFacts
from zugvogel.domain.overrides import CpuOverrides, Overrides
from zugvogel.ports.network import RarpWatch

CPUINFO = """processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 106
model name\t: Intel(R) Xeon(R)
stepping\t: unknown
flags\t\t: fpu sse4_2 avx2

processor\t: 1
vendor_id\t: GenuineIntel
"""


class Network:
    async def bridges(self) -> list[BridgeFacts]:
        return [BridgeFacts(name="br1", mtu=1500), BridgeFacts(name="br0", mtu=9000)]

    async def link_mbit(self, address: str) -> int:
        return 10_000

    def watch_rarp(self, bridge: str, mac: str) -> RarpWatch:
        raise NotImplementedError

    async def probe(self, bridge: str, address: str, timeout_s: float = 1.0) -> str | None:
        return None

    def learned_addresses(self, mac: str) -> tuple[str, ...]:
        return ()

    def teach(self, mac: str, addresses: tuple[str, ...]) -> None:
        raise NotImplementedError

    def start_learning(self) -> None:
        raise NotImplementedError


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "cpuinfo").write_text(CPUINFO)
    (tmp_path / "meminfo").write_text("MemTotal: 4096 kB\nMemFree: 1 kB\nMemAvailable: 2048 kB\n")
    (tmp_path / "loadavg").write_text("0.25 0.10 0.05 1/100 4711\n")
    return tmp_path


async def test_facts_are_read(proc: Path) -> None:
    source = ProcHostFacts(network=Network(), address="192.0.2.1", proc=proc, qemu_version="10.0.2")
    facts = await source.facts()
    assert (facts.cpu.vendor, facts.cpu.family, facts.cpu.model, facts.cpu.stepping) == ("GenuineIntel", 6, 106, 0)
    assert facts.cpu.flags == {"fpu", "sse4_2", "avx2"}
    assert (facts.cores, facts.memory_total_bytes, facts.link_mbit) == (2, 4096 * 1024, 10_000)
    assert [bridge.name for bridge in facts.bridges] == ["br0", "br1"]
    assert source.load() == (0.25, 2048 * 1024)


async def test_overrides_win(proc: Path) -> None:
    overrides = Overrides(
        cores=16,
        memory_bytes=2**30,
        link_mbit=100,
        cpu=CpuOverrides(vendor="AuthenticAMD", without_flags=frozenset({"avx2"})),
        vlans={"lan": 7},
    )
    source = ProcHostFacts(network=Network(), address="192.0.2.1", proc=proc, overrides=lambda: overrides)
    facts = await source.facts()
    assert (facts.cores, facts.memory_total_bytes, facts.link_mbit) == (16, 2**30, 100)
    assert (facts.cpu.vendor, facts.cpu.family, facts.cpu.flags) == (
        "AuthenticAMD",
        6,
        frozenset({"fpu", "sse4_2"}),
    )
    assert facts.vlan_overrides == {"lan": 7}


async def test_this_machine_can_be_read() -> None:
    facts = await ProcHostFacts(network=None, address="").facts()
    assert facts.cores >= 1
    assert facts.memory_total_bytes > 2**20


def test_no_cpu_at_all_is_told() -> None:
    with pytest.raises(ValueError, match="no processor"):
        parse_cpuinfo("")
