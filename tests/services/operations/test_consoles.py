"""zugvogel.services.operations.consoles, of two hosts"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from tests.core.facts import definition
from tests.services.operations.cluster_of_two import ClusterOfTwo
from zugvogel.domain.host import Host
from zugvogel.domain.vm import VmState
from zugvogel.errors import NotFound, Refused
from zugvogel.ports.backend import ByteStream, ConsoleKind
from zugvogel.ports.hypervisor import Machine
from zugvogel.services.local_vms import Guest
from zugvogel.services.operations.consoles import TICKETS, ConsoleOperations

SERIAL, VNC = Path("/run/web1/serial.sock"), Path("/run/web1/vnc.sock")


class Opened:
    """What was opened, as streams that do nothing."""

    def __init__(self) -> None:
        self.local_ones: list[tuple[Path, bool]] = []
        self.remote_ones: list[tuple[str, str, ConsoleKind, str]] = []

    async def local(self, socket: Path, *, is_shared: bool) -> ByteStream:
        self.local_ones.append((socket, is_shared))
        return cast(ByteStream, SimpleNamespace())

    async def remote(self, host: Host, vm: str, kind: ConsoleKind, ticket: str) -> ByteStream:
        self.remote_ones.append((host.name, vm, kind, ticket))
        return cast(ByteStream, SimpleNamespace())


class Shown:
    """web1 runs on host1, with a display or without; both hosts can be asked."""

    def __init__(self, cluster: ClusterOfTwo) -> None:
        self.cluster = cluster
        self.opened = Opened()
        self.here, self.there = (
            ConsoleOperations(node.world, node.operations, self.opened) for node in cluster.nodes.values()
        )

    async def begin(self, *, state: VmState = VmState.RUNNING, display: Path | None = VNC) -> Shown:
        made = definition(name="web1", nics=(), display="vga")
        host = "host1" if state is VmState.RUNNING else None
        await self.cluster.add(made, observed=state, host=host, epoch=1)
        machine = cast(Machine, SimpleNamespace(serial_socket=SERIAL, display_socket=display))
        self.cluster.nodes["host1"].vms.guests["web1"] = Guest(machine, made, "nfs1", 1)
        return self


@pytest.fixture
async def shown(tmp_path: Path) -> Shown:
    cluster = ClusterOfTwo(tmp_path)
    await cluster.begin()
    return Shown(cluster)


async def test_on_its_own_host_it_is_qemus_socket_and_only_a_display_is_shared(shown: Shown) -> None:
    await shown.begin()
    await shown.here.console("web1")
    await shown.here.display("web1")
    assert shown.opened.local_ones == [(SERIAL, False), (VNC, True)]
    assert shown.here.tickets == {}


@pytest.mark.parametrize("kind", ["console", "display"])
async def test_elsewhere_a_ticket_of_its_host_opens_the_same_path_there(shown: Shown, kind: str) -> None:
    await shown.begin()
    await getattr(shown.there, kind)("web1")
    [(host, vm, asked, ticket)] = shown.opened.remote_ones
    assert (host, vm, asked) == ("host1", "web1", kind)
    assert shown.here.tickets == {ticket: "web1"}
    assert shown.opened.local_ones == []


async def test_old_tickets_are_forgotten(shown: Shown) -> None:
    await shown.begin()
    for _ in range(TICKETS + 3):
        await shown.there.display("web1")
    issued = [ticket for *_, ticket in shown.opened.remote_ones]
    assert list(shown.here.tickets) == issued[3:]


async def test_a_vm_that_was_started_without_a_display_refuses_it_wherever_it_is_asked(shown: Shown) -> None:
    await shown.begin(display=None)
    for asked in (shown.here, shown.there):
        with pytest.raises(Refused, match="web1 was started without a display") as refusal:
            await asked.display("web1")
        assert "zv vm set web1 --display vga" in refusal.value.next_step
        await asked.console("web1")
    assert [socket for socket, _ in shown.opened.local_ones] == [SERIAL]


async def test_a_stopped_vm_shows_nothing(shown: Shown) -> None:
    await shown.begin(state=VmState.STOPPED)
    with pytest.raises(Refused, match="web1 is stopped"):
        await shown.here.display("web1")


async def test_an_unknown_vm_shows_nothing(shown: Shown) -> None:
    with pytest.raises(NotFound):
        await shown.here.display("web9")
