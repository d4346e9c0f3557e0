"""What survives which failure (mission, W1): the README's table, for a page. A test holds them together."""

from __future__ import annotations

from typing import NamedTuple

from zugvogel.console.actions import Action
from zugvogel.console.i18n import marked
from zugvogel.console.page import Look, Page, Variables


class Row(NamedTuple):
    """English texts, translated where they are shown."""

    failure: str
    verdict: str
    with_ha: str
    memory: str
    without_ha: str


ROWS = (
    Row(
        marked("host dead"),
        marked("failed"),
        marked("restarted elsewhere by priority, from T on"),
        marked("lost; ◌ kept by fault tolerance"),
        marked("down with its host; zv host confirm-dead lets it start elsewhere"),
    ),
    Row(
        marked("four of five primaries dead at once"),
        marked("failed"),
        marked("restarted by the last one, without etcd's majority; etcd is formed anew"),
        marked("lost"),
        marked("down with its host"),
    ),
    Row(
        marked("host's network lost, datastore reached"),
        marked("isolated; partitioned where no isolation address ever answered"),
        marked(
            "its isolation response: suspend goes on elsewhere; shutdown and poweroff restart "
            "elsewhere; leave (default) runs on, unreachable"
        ),
        marked("suspend, leave: kept; else lost"),
        marked("runs on, unreachable, memory kept"),
    ),
    Row(
        marked("network cut in two"),
        marked("partitioned, as seen from the other part"),
        marked("runs on where it is"),
        marked("kept"),
        marked("the same"),
    ),
    Row(
        marked("host's path to the datastore lost, network fine"),
        marked("storage-lost"),
        marked(
            "frozen from 0.6 T on, goes on by itself; after das.apdtimeout (140 s) given up and "
            "restarted elsewhere, where its last writes can be known to be over and a host has room, "
            "else it stays frozen, and that is told; ◌ I/O through a partner host"
        ),
        marked("kept; lost when given up"),
        marked("waits for its disk, or QEMU pauses it at a failing I/O; it goes on by itself, memory kept"),
    ),
    Row(
        marked("network and datastore lost, host alive"),
        marked("failed; as 3 where it reaches another datastore, for what lies there"),
        marked(
            "frozen there at 0.6 T, restarted elsewhere from T on, once its image lock is gone; the "
            "frozen one is killed when its host is back"
        ),
        marked("lost"),
        marked("stays on its host, as 5"),
    ),
    Row(
        marked("whole datastore down"),
        marked("live; of itself each primary says storage-lost. The datastore is unusable everywhere"),
        marked("frozen, and all go on by themselves"),
        marked("kept"),
        marked("as 5"),
    ),
    Row(
        marked("host hangs as a whole"),
        marked("failed"),
        marked(
            "the restart waits for the held image lock: the host wakes up and goes on, or its watchdog "
            "or fence ends it. Without such locks only watchdog and fence do"
        ),
        marked("kept if it wakes up, else lost"),
        marked("goes on if it wakes up, memory kept"),
    ),
    Row(
        marked("QEMU or guest crashes"),
        marked("live"),
        marked("restarted where it was, else elsewhere"),
        marked("lost"),
        marked("reported failed, down"),
    ),
    Row(
        marked("agent crashes or is updated"),
        marked("live; away for T: failed"),
        marked(
            "runs on; the new agent adopts it. Away for 0.6 T: frozen until it is back, beyond T too "
            "while its image lock keeps it, else restarted elsewhere"
        ),
        marked("kept; lost when restarted"),
        marked("runs on, memory kept"),
    ),
    Row(
        marked("etcd without a majority"),
        marked("by heartbeats and beats, as ever"),
        marked("runs on; restarts go on; settings cannot be changed"),
        marked("kept"),
        marked("the same, without restarts"),
    ),
    Row(
        marked("a side or the link dies in a live migration"),
        marked("in the report"),
        marked("runs exactly once; if its own QEMU died it is restarted"),
        marked("kept unless its QEMU died"),
        marked("the same, but reported dead, once, instead of restarted"),
    ),
    Row(
        marked("a side or the network dies in a quick migration"),
        marked("in the report"),
        marked("runs exactly once, or is resumed"),
        marked("kept once written"),
        marked("runs once, or stays suspended and can be resumed"),
    ),
    Row(
        marked("power of all hosts lost"),
        marked("live; those not back yet: failed"),
        marked("started when the hosts are back; one that was suspended is resumed by any host"),
        marked("lost; suspended: kept"),
        marked("reported failed; suspended: as with it on"),
    ),
)


async def view(look: Look) -> Variables:
    settings = {each["name"]: each["value"] for each in look.mirror.all("settings")}
    return {"rows": ROWS, "detection_ms": settings.get("das.failuredetectiontime"), "ha": look.mirror.ha}


PAGES = (Page("/survival", "survival.html", view),)
ACTIONS: tuple[Action, ...] = ()
