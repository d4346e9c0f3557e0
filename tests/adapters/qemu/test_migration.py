"""Live migration between two QEMUs over the loopback: zugvogel.adapters.qemu.{migration,qmp_machine}"""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.adapters.qemu.conftest import TLS_NAME, Spawn, firmware_vm, host, make_certificates
from zugvogel.adapters.qemu.migration import channel, sample
from zugvogel.ports.hypervisor import Machine, MachineStatus

HERE = "127.0.0.1"
CAPABILITIES = {"events": True, "return-path": True}
SLOW = {"max-bandwidth": 64 << 10}
"""Bytes/s: so little that a migration stays in its first round."""


def test_a_sample_is_in_bytes() -> None:
    ram = {"mbps": 8.0, "dirty-pages-rate": 2, "page-size": 4096, "dirty-sync-count": 3, "remaining": 5}
    found = sample({"status": "active", "ram": ram})
    assert (found.throughput_bps, found.dirty_rate_bps) == (1e6, 8192)
    assert (found.rounds, found.remaining_bytes) == (3, 5)
    assert sample({}).status == "none"


def test_an_ipv6_address_is_bracketed() -> None:
    assert channel("2001:db8::1", 7450) == {"uri": "tcp:[2001:db8::1]:7450"}


class Pair:
    def __init__(self, source: Machine, target: Machine) -> None:
        self.source, self.target = source, target

    async def begin(self, capabilities: dict[str, bool], source: dict[str, Any], target: dict[str, Any]) -> None:
        await self.target.set_migration(CAPABILITIES | capabilities, target)
        await self.source.set_migration(CAPABILITIES | capabilities, source)
        port = _free_port()
        await self.target.listen(HERE, port)
        await self.source.migrate_to(HERE, port)

    async def until(self, *statuses: str) -> str:
        while (status := (await self.source.migration()).status) not in statuses:  # noqa: ASYNC110 - QEMU is asked
            await asyncio.sleep(0.01)
        return status


async def running_pair(root: Path, spawn: Spawn, tls: Path | None = None) -> Pair:
    source = await spawn(host(root, "a", tls), firmware_vm(root))
    target = await spawn(host(root, "b", tls), firmware_vm(root, incoming=True))
    await source.cont()
    return Pair(source, target)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HERE, 0))
        return int(probe.getsockname()[1])


async def assert_moves(pair: Pair, **begin: Any) -> None:
    await pair.begin(begin.get("capabilities", {}), begin.get("source", {}), begin.get("target", {}))
    assert await pair.until("completed", "failed") == "completed"
    while await pair.source.status() is MachineStatus.FINISH_MIGRATE:  # noqa: ASYNC110 - for a moment more
        await asyncio.sleep(0.01)
    assert await pair.source.status() is MachineStatus.POSTMIGRATE
    while await pair.target.status() is MachineStatus.INMIGRATE:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert await pair.target.status() is MachineStatus.PAUSED  # loaded; waits for the word
    await pair.target.cont()
    assert await pair.target.status() is MachineStatus.RUNNING
    assert (await pair.source.migration()).transferred_bytes > 0


@pytest.mark.qemu
@pytest.mark.timeout(60)
async def test_the_target_runs_only_on_cont(root: Path, spawn: Spawn) -> None:
    await assert_moves(await running_pair(root, spawn))


@pytest.mark.qemu
@pytest.mark.timeout(60)
async def test_several_channels(root: Path, spawn: Spawn) -> None:
    channels = {"multifd-channels": 2}
    pair = await running_pair(root, spawn)
    assert "multifd" in await pair.source.migration_capabilities()
    await assert_moves(pair, capabilities={"multifd": True}, source=channels, target=channels)


@pytest.mark.qemu
@pytest.mark.timeout(60)
@pytest.mark.parametrize("is_multifd", [False, True])
async def test_encrypted(root: Path, spawn: Spawn, is_multifd: bool) -> None:
    pair = await running_pair(root, spawn, make_certificates(root / "pki"))
    await assert_moves(
        pair,
        capabilities={"multifd": is_multifd},
        source={"tls-creds": "tls-client0", "tls-hostname": TLS_NAME},
        target={"tls-creds": "tls-server0"},
    )


@pytest.mark.qemu
@pytest.mark.timeout(60)
async def test_a_target_with_another_name_in_its_certificate_gets_nothing(root: Path, spawn: Spawn) -> None:
    pair = await running_pair(root, spawn, make_certificates(root / "pki"))
    await pair.begin({}, {"tls-creds": "tls-client0", "tls-hostname": "host3"}, {"tls-creds": "tls-server0"})
    assert await pair.until("completed", "failed") == "failed"
    assert await pair.source.status() is MachineStatus.RUNNING


@pytest.mark.qemu
@pytest.mark.timeout(60)
async def test_after_a_cancel_the_source_runs_on(root: Path, spawn: Spawn) -> None:
    pair = await running_pair(root, spawn)
    await pair.begin({}, SLOW, {})
    await pair.until("active")
    await pair.source.cancel_migration()
    assert await pair.until("cancelled", "failed") == "cancelled"
    assert await pair.source.status() is MachineStatus.RUNNING


@pytest.mark.qemu
@pytest.mark.timeout(60)
async def test_the_source_runs_on_when_the_target_is_killed_in_precopy(root: Path, spawn: Spawn) -> None:
    pair = await running_pair(root, spawn)
    await pair.begin({}, SLOW, {})
    await pair.until("active")
    await pair.target.kill()
    assert await pair.until("failed", "completed") == "failed"
    assert await pair.source.status() is MachineStatus.RUNNING
