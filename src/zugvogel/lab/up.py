"""`zv lab up`: hosts, switch and client, then (in `cluster`) one cluster of all hosts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from zugvogel.errors import InvalidInput, Refused
from zugvogel.lab import account, client, cluster, host, preconditions, switch
from zugvogel.lab.down import leftovers
from zugvogel.lab.layout import MAX_HOSTS, LabHost, LabState, Layout

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Wish:
    """`link_mbit`, `cores`, `memory_bytes` 0: unshaped, and what the machine has."""

    hosts: int
    link_mbit: int = 0
    cores: int = 0
    memory_bytes: int = 0
    is_cluster: bool = True


def lab_up(layout: Layout, wish: Wish, progress: Progress) -> LabState:
    """Returns when every agent is live. Raises Refused when a lab is up or something is missing (nothing was
    touched then); any other failure leaves what was made, for a look and for `zv lab down`."""
    preconditions.require_root()
    preconditions.require_tools()
    if not 1 <= wish.hosts <= MAX_HOSTS:
        raise InvalidInput(f"a lab of {wish.hosts} hosts cannot be", f"choose 1 to {MAX_HOSTS}")
    with preconditions.exclusively(layout):
        _require_nothing_there(layout)
        state = _prepare(layout, wish)
        progress("switch and client")
        switch.build(layout)
        client.build(layout)
        for lab_host in state.hosts:
            progress(f"power on {lab_host.name} ({lab_host.address})")
            host.power_on(layout, lab_host)
        if wish.is_cluster:
            cluster.form(layout, state, progress)
        state.is_complete = True
        layout.save(state)
    return state


def _require_nothing_there(layout: Layout) -> None:
    left = leftovers(layout)
    if left:
        word = "is up" if layout.state_file.exists() and layout.load().is_complete else "was left half made"
        raise Refused(f"a lab {word} at {layout.root} ({left[0]} ...)", "end it with `zv lab down`")
    if layout.root.exists() and any(layout.root.iterdir()):
        raise Refused(f"{layout.root} is not empty and not a lab's", "choose another ZUGVOGEL_LAB_ROOT")


def _prepare(layout: Layout, wish: Wish) -> LabState:
    layout.root.mkdir(parents=True, exist_ok=True)
    layout.mark.touch()
    state = LabState(
        hosts=[
            LabHost(f"host{n}", n, link_mbit=wish.link_mbit, cores=wish.cores, memory_bytes=wish.memory_bytes)
            for n in range(1, wish.hosts + 1)
        ],
        is_cluster=wish.is_cluster,
    )
    layout.save(state)
    layout.shared.mkdir()
    layout.shared.chmod(0o755)
    account.write_files(layout.root)
    preconditions.make_mount_points()
    for lab_host in state.hosts:
        paths = layout.host(lab_host.name)
        paths.base.mkdir(parents=True)
        if wish.is_cluster:
            paths.hold.touch()  # no agent before its host is in a cluster
    return state
