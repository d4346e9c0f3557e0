"""The lab's physical switch: a namespace with bridges, a gateway and DHCP for guests.

Bridge ``sw0`` carries the gateway, the client and every port; `partition` moves ports to ``sw1``...
Bridges learn MAC addresses as real switches do, so a missing RARP after a move shows.
"""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from zugvogel.errors import InvalidInput
from zugvogel.lab import processes
from zugvogel.lab.layout import GATEWAYS, SWITCH, UPLINK, LabHost, LabState, Layout
from zugvogel.lab.namespaces import add_netns, in_netns, ip, run, tc

_BURST_BYTES = 128 * 1024
_QUEUE_S = 0.02


def build(layout: Layout) -> None:
    """Raises ProcedureFailed. `down` undoes it."""
    name = layout.netns(SWITCH)
    add_netns(name)
    _add_bridge(layout, 0)
    for address in GATEWAYS:
        ip("addr", "add", f"{address}/24", "dev", "sw0", netns=name)
    in_netns(layout.netns_path(SWITCH), lambda: Path("/proc/sys/net/ipv4/ip_forward").write_text("1"))
    _start_dhcp(layout)


def _add_bridge(layout: Layout, number: int) -> None:
    name = layout.netns(SWITCH)
    ip("link", "add", f"sw{number}", "type", "bridge", "stp_state", "0", "forward_delay", "0", netns=name)
    ip("link", "set", f"sw{number}", "up", netns=name)


def _start_dhcp(layout: Layout) -> None:
    """dnsmasq on sw0 alone, DHCP alone, for guests (addresses 198.51.100.10 to 199)."""
    folder = layout.root / "dhcp"
    folder.mkdir(exist_ok=True)
    command = [
        *("ip", "netns", "exec", layout.netns(SWITCH), "dnsmasq", "--conf-file=/dev/null", "--port=0"),
        *("--interface=sw0", "--except-interface=lo", "--bind-interfaces", "--user=root", "--no-ping"),
        *("--dhcp-range=198.51.100.10,198.51.100.199,255.255.255.0,12h", "--dhcp-authoritative"),
        *(f"--dhcp-option=3,{GATEWAYS[1]}", f"--dhcp-leasefile={folder / 'leases'}"),
        *(f"--pid-file={folder / 'pid'}", f"--log-facility={folder / 'log'}"),
    ]
    subprocess.run(command, check=True, env=layout.environment, stdin=subprocess.DEVNULL)


def stop_dhcp(layout: Layout) -> None:
    """Ends the dnsmasq of this lab, if its pid file still names it."""
    try:
        pid = int((layout.root / "dhcp" / "pid").read_text())
    except (FileNotFoundError, ValueError):
        return
    if pid in processes.of_lab(layout.root):
        processes.send(pid, signal.SIGKILL)


def plug(layout: Layout, host: LabHost) -> None:
    """A cable from the host's uplink to its port, shaped and on the bridge that the state names."""
    switch, netns = layout.netns(SWITCH), layout.netns(host.name)
    ip(
        *("link", "add", host.port, "netns", switch, "type", "veth"),
        *("peer", "name", UPLINK, "address", host.mac, "netns", netns),
    )
    ip("link", "set", host.port, "master", f"sw{host.group}", netns=switch)
    ip("link", "set", UPLINK, "up", netns=netns)
    shape(layout, host)
    if not host.is_cut:
        ip("link", "set", host.port, "up", netns=switch)


def shape(layout: Layout, host: LabHost) -> None:
    """Token buckets both ways; none when `link_mbit` is 0."""
    for netns, device in ((layout.netns(SWITCH), host.port), (layout.netns(host.name), UPLINK)):
        if host.link_mbit:
            queue = max(int(host.link_mbit * 125_000 * _QUEUE_S), _BURST_BYTES)
            tc(
                netns,
                *("qdisc", "replace", "dev", device, "root", "tbf", "rate", f"{host.link_mbit}mbit"),
                *("burst", str(_BURST_BYTES), "limit", str(queue)),
            )
        elif " tbf " in f" {tc(netns, 'qdisc', 'show', 'dev', device)} ":
            tc(netns, "qdisc", "del", "dev", device, "root")


def set_cut(layout: Layout, host: LabHost, *, is_cut: bool) -> None:
    """Port down: the host's uplink loses its carrier, as with a pulled cable."""
    host.is_cut = is_cut
    if host.port in _links(layout):
        ip("link", "set", host.port, "down" if is_cut else "up", netns=layout.netns(SWITCH))


def pull(layout: Layout, host: LabHost) -> None:
    """Silences the port of a host whose power goes, without changing what was asked for."""
    if host.port in _links(layout):
        ip("link", "set", host.port, "down", netns=layout.netns(SWITCH))


def partition(layout: Layout, state: LabState, groups: Sequence[Sequence[str]]) -> None:
    """The first group stays with gateway and client, as do hosts not named; each other group gets a
    bridge of its own. Raises InvalidInput for a host named twice, NotFound for an unknown one."""
    names = [name for group in groups for name in group]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidInput(f"{twice[0]} is in two groups", "name each host once")
    wanted = {state.host(name).name: number for number, group in enumerate(groups) for name in group}
    links = _links(layout)
    for number in range(1, len(groups)):
        if f"sw{number}" not in links:
            _add_bridge(layout, number)
    for host in state.hosts:
        host.group = wanted.get(host.name, 0)
        if host.port in links:
            ip("link", "set", host.port, "master", f"sw{host.group}", netns=layout.netns(SWITCH))
    for number in range(max(1, len(groups)), len(state.hosts) + 1):
        if f"sw{number}" in links:
            ip("link", "del", f"sw{number}", netns=layout.netns(SWITCH))


def heal(layout: Layout, state: LabState) -> None:
    """All ports up and on one bridge again."""
    partition(layout, state, [])
    for host in state.hosts:
        set_cut(layout, host, is_cut=False)


def _links(layout: Layout) -> set[str]:
    if not layout.netns_path(SWITCH).exists():
        return set()
    found = json.loads(run(["ip", "-n", layout.netns(SWITCH), "-j", "link", "show"]))
    return {link["ifname"] for link in found}
