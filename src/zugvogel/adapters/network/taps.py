"""Taps: the vm's end of a bridge. Not persistent, so a tap is gone with the QEMU that holds it."""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
from pathlib import Path

from zugvogel.adapters.network import iproute, packets
from zugvogel.errors import ProcedureFailed, Refused
from zugvogel.ports.hypervisor import NicSpec

TUNSETIFF = 0x400454CA
SIOCSIFHWADDR, ARPHRD_ETHER = 0x8924, 1
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
SYS_NET = Path("/sys/class/net")


def tap_name(vm: str, number: int) -> str:
    """At most 15 characters, the same for a vm and NIC on every host."""
    return f"zv{hashlib.sha256(vm.encode()).hexdigest()[:9]}n{number}"


def tap_mac(guest_mac: str) -> bytes:
    """The host's end: the guest's MAC with a first byte so high that the bridge, which takes the lowest MAC of
    its ports, keeps its own whatever vm comes or goes. Never the guest's own: the bridge would swallow its frames.
    """
    mac = packets.mac_bytes(guest_mac)
    return (b"\xfa" if mac[0] == 0xFE else b"\xfe") + mac[1:]


class HostTaps:
    async def open(self, vm: str, number: int, nic: NicSpec) -> tuple[int, str]:
        """A tap in `nic.bridge`, up. Closing every copy of the fd removes it. Raises Refused where the bridge
        is missing or cannot do VLANs."""
        name = tap_name(vm, number)
        self._check_bridge(nic)
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            request = struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)
            fcntl.ioctl(fd, TUNSETIFF, request)
            fcntl.ioctl(fd, SIOCSIFHWADDR, struct.pack("16sH6s16x", b"", ARPHRD_ETHER, tap_mac(nic.mac)))
            await self._join(name, nic)
        except OSError as error:
            os.close(fd)
            raise ProcedureFailed(
                f"no tap for {vm}: {error.strerror}", "is another QEMU of it running?"
            ) from error
        except BaseException:
            os.close(fd)
            raise
        return fd, name

    def _check_bridge(self, nic: NicSpec) -> None:
        bridge = SYS_NET / nic.bridge / "bridge"
        if not bridge.is_dir():
            raise Refused(f"this host has no bridge {nic.bridge}", "create it, or change the network's bridge")
        filtering = bridge / "vlan_filtering"
        if nic.vlan and (not filtering.exists() or filtering.read_text().strip() != "1"):
            raise Refused(
                f"bridge {nic.bridge} does not filter VLANs, so VLAN {nic.vlan} cannot be set on it",
                f"ip link set {nic.bridge} type bridge vlan_filtering 1",
            )

    async def _join(self, name: str, nic: NicSpec) -> None:
        mtu = nic.mtu or int((SYS_NET / nic.bridge / "mtu").read_text())
        await iproute.run("ip", "link", "set", name, "mtu", str(mtu), "master", nic.bridge, "up")
        if nic.vlan:
            await iproute.run("bridge", "vlan", "del", "dev", name, "vid", "1")
            await iproute.run("bridge", "vlan", "add", "dev", name, "vid", str(nic.vlan), "pvid", "untagged")
