"""The lab's client: a namespace on the switch that pings, opens connections and carries the CLI's calls."""

from __future__ import annotations

from zugvogel.lab.layout import CLIENT, CLIENT_ADDRESSES, SWITCH, Layout
from zugvogel.lab.namespaces import add_netns, ip


def build(layout: Layout) -> None:
    """Raises ProcedureFailed. `down` undoes it."""
    switch, client = layout.netns(SWITCH), layout.netns(CLIENT)
    add_netns(client)
    ip("link", "add", "p-client", "netns", switch, "type", "veth", "peer", "name", "eth0", "netns", client)
    ip("link", "set", "p-client", "master", "sw0", "up", netns=switch)
    ip("link", "set", "eth0", "up", netns=client)
    for address in CLIENT_ADDRESSES:
        ip("addr", "add", f"{address}/24", "dev", "eth0", netns=client)


def command(layout: Layout, arguments: list[str]) -> list[str]:
    """The argument list that runs a command as the client."""
    return ["nsenter", f"--net={layout.netns_path(CLIENT)}", "--", *arguments]
