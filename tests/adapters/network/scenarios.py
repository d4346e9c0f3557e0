"""What the tests run inside a network namespace of their own: ``br0`` with the port ``up0``, whose other end
``sw0`` plays the physical switch."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path

from zugvogel.adapters.network import iproute, packets
from zugvogel.adapters.network.host_network import LinuxHostNetwork
from zugvogel.adapters.network.taps import HostTaps, tap_name
from zugvogel.errors import ProcedureFailed, Refused
from zugvogel.ports.hypervisor import NicSpec

MAC = "52:54:00:00:00:01"
NET = Path("/sys/class/net")
CANNOT_BE_TRIED = 77
"""Exit status: this kernel lacks what the scenario needs."""


async def taps_vanish_with_their_descriptor() -> None:
    fd, name = await HostTaps().open("web1", 0, NicSpec(MAC, "br0", mtu=1400))
    assert (NET / "br0/brif" / name).exists()
    assert (NET / name / "mtu").read_text().strip() == "1400"
    os.close(fd)
    assert not (NET / name).exists()


async def the_bridge_keeps_its_mac() -> None:
    """Also where the guest's MAC is the lowest of all, and where it begins as the tap's would."""
    before = (NET / "br0/address").read_text()
    for number, mac in enumerate((MAC, "00:00:00:00:00:01", "fe:00:00:00:00:01")):
        fd, name = await HostTaps().open("web1", number, NicSpec(mac, "br0"))
        own = (NET / name / "address").read_text().strip()
        assert own == ("fa" if mac.startswith("fe") else "fe") + mac[2:]
        assert (NET / "br0/address").read_text() == before
        os.close(fd)
        assert (NET / "br0/address").read_text() == before


async def a_tap_is_refused_without_bridge_or_vlans() -> None:
    for nic in (NicSpec(MAC, "br9"), NicSpec(MAC, "br0", vlan=20)):
        try:
            await HostTaps().open("web1", 0, nic)
        except Refused as error:
            told = error.next_step
        else:
            raise AssertionError(nic)
        assert told
    assert not (NET / tap_name("web1", 0)).exists()


async def a_tap_joins_its_vlan() -> None:
    try:
        await iproute.run("ip", "link", "set", "br0", "type", "bridge", "vlan_filtering", "1")
    except ProcedureFailed as error:
        if "not supported" in error.cause:
            sys.exit(CANNOT_BE_TRIED)
        raise
    fd, name = await HostTaps().open("web1", 0, NicSpec(MAC, "br0", vlan=20))
    told = await iproute.run("bridge", "vlan", "show", "dev", name)
    assert "20 PVID Egress Untagged" in told
    os.close(fd)


async def bridges_and_links_are_found() -> None:
    network = LinuxHostNetwork()
    assert [(b.name, b.mtu, b.is_vlan_aware) for b in await network.bridges()] == [("br0", 1500, False)]
    assert await network.link_mbit("192.0.2.10") == 10000
    assert await network.link_mbit("192.0.2.99") == 0


async def rarp_is_seen_only_from_outside() -> None:
    frame = b"\xff" * 6 + packets.mac_bytes(MAC) + b"\x80\x35" + bytes(46)
    network = LinuxHostNetwork()
    fd, _ = await HostTaps().open("web1", 0, NicSpec(MAC, "br0"))
    watch = network.watch_rarp("br0", MAC)
    os.write(fd, bytes(10) + frame)  # our own guest: leaves by up0
    assert not await watch.seen(0.3)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as switch:
        switch.bind(("sw0", 0))
        switch.send(frame)
        assert await watch.seen(5)
    watch.close()
    os.close(fd)


def arp_claim(mac: str, address: str, ethernet_source: str = "") -> bytes:
    """A request that tells its sender's address, as every ARP request of a guest does."""
    probe = packets.arp_probe(packets.mac_bytes(mac), "198.51.100.1")
    claim = probe[:28] + socket.inet_aton(address) + probe[32:]
    return claim[:6] + packets.mac_bytes(ethernet_source or mac) + claim[12:]


async def addresses_of_guests_are_learned() -> None:
    network = LinuxHostNetwork()
    network.start_learning()
    fd, _ = await HostTaps().open("web1", 0, NicSpec(MAC, "br0"))
    for address in ("198.51.100.7", "198.51.100.8"):
        os.write(fd, bytes(10) + arp_claim(MAC, address))
    await learned(network, 2)
    assert network.learned_addresses(MAC) == ("198.51.100.8", "198.51.100.7")
    os.close(fd)


async def learned(network: LinuxHostNetwork, count: int) -> None:
    while len(network.learned_addresses(MAC)) < count:  # noqa: ASYNC110 - read by the loop, which tells nobody
        await asyncio.sleep(0.01)


async def nothing_is_learned_of_what_goes_to_guests() -> None:
    """Broadcasts of the wire and of other guests go out through every tap; and a guest speaks for itself only."""
    other, liar = "52:54:00:00:00:02", "52:54:00:00:00:03"
    network = LinuxHostNetwork()
    network.start_learning()
    fd, _ = await HostTaps().open("web1", 0, NicSpec(MAC, "br0"))
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as switch:
        switch.bind(("sw0", 0))
        switch.send(arp_claim(other, "198.51.100.9"))
    while arp_claim(other, "198.51.100.9") not in await from_tap(fd):
        pass
    os.write(fd, bytes(10) + arp_claim(other, "198.51.100.66", ethernet_source=liar))
    os.write(fd, bytes(10) + arp_claim(MAC, "198.51.100.7"))  # read after those before it
    await learned(network, 1)
    assert network.learned_addresses(other) == network.learned_addresses(liar) == ()
    os.close(fd)


async def from_tap(fd: int) -> bytes:
    """What the guest would receive next."""
    while True:
        try:
            return os.read(fd, 2048)
        except BlockingIOError:
            await asyncio.sleep(0.01)


async def a_probe_is_answered_by_a_neighbour() -> None:
    """The neighbour is this very namespace's ``sw0`` behind the cable."""
    network = LinuxHostNetwork()
    assert await network.probe("br0", "192.0.2.77", 0.3) is None
    answer = asyncio.create_task(network.probe("br0", "192.0.2.78", 5))
    with packets.open_socket(packets.ETH_P_ARP, "sw0") as switch:
        request = await asyncio.get_running_loop().sock_recv(switch, 2048)
        reply = request[6:12] + packets.mac_bytes(MAC) + request[12:20] + b"\x00\x02" + packets.mac_bytes(MAC)
        switch.send(reply + socket.inet_aton("192.0.2.78") + request[22:28] + bytes(4))
    assert await answer == MAC


if __name__ == "__main__":
    asyncio.run(globals()[sys.argv[1]]())
