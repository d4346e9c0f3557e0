"""`zv datastore` and `zv network`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from zugvogel.cli import output, session, watch
from zugvogel.cli.options import Json, Yes, complete_datastore, complete_host, complete_network, confirm
from zugvogel.errors import NotFound

datastore_app = typer.Typer(no_args_is_help=True, help="Shared directories that hold the vms.")
network_app = typer.Typer(no_args_is_help=True, help="Virtual networks.")

DatastoreName = Annotated[str, typer.Argument(autocompletion=complete_datastore)]


class Proof(StrEnum):
    LOCK = "lock"
    GUARD = "guard"
    FENCE = "fence"
    CONFIRM = "confirm"
    DEFAULT = "default"


@datastore_app.command("add", epilog="Example: zv datastore add fast /srv/fast")
def add_datastore(
    name: Annotated[str, typer.Argument(help="What to call it.")],
    path: Annotated[str, typer.Argument(help="Where every host has it mounted.")],
    allow_local: Annotated[
        bool, typer.Option("--allow-local", help="Take a file system that is not shared (lab, single host).")
    ] = False,
    as_json: Json = False,
) -> None:
    """Recognise a mounted file system, prove that all hosts share it, take it into use."""
    body = {"name": name, "path": path, "is_local_allowed": allow_local}
    task = watch.finish(session.api().post("/datastores", body), as_json=as_json)
    if as_json:
        output.print_json(task["report"])
        return
    report = task["report"] or {}
    output.say(f"datastore {name} is added: {report.get('kind', '')}")
    output.table(("HOST", "SEES"), list(report.get("hosts", {}).items()), empty="")


@datastore_app.command("list", epilog="Example: zv datastore list")
def list_datastores(as_json: Json = False) -> None:
    """All datastores and who can use them."""
    found = session.api().get("/datastores")
    if as_json:
        output.print_json(found)
        return
    output.table(
        ("NAME", "PATH", "TYPE", "SHARED", "PROOF", "FREE", "SIZE", "USABLE ON", "NOT ON"),
        [
            (
                d["name"],
                d["path"],
                d["kind"],
                d["is_shared"],
                d["proof"],
                output.size(d["free_bytes"]),
                output.size(d["total_bytes"]),
                [h for h, r in d["hosts"].items() if r["is_usable"]],
                [f"{h}: {r['why']}" for h, r in d["hosts"].items() if not r["is_usable"]],
            )
            for d in found
        ],
        empty="no datastores; see `zv datastore add --help`",
    )


@datastore_app.command("show", epilog="Example: zv datastore show fast")
def show_datastore(name: DatastoreName, as_json: Json = False) -> None:
    """One datastore: who can use it, and what proves a failed host dead there."""
    _show(_known(name), as_json=as_json)


def _known(name: str) -> dict[str, Any]:
    for found in session.api().get("/datastores"):
        if found["name"] == name:
            return dict(found)
    raise NotFound(f"there is no datastore {name}", "see: zv datastore list")


@datastore_app.command("set", epilog="Example: zv datastore set fast --proof fence")
def set_datastore(
    name: DatastoreName,
    proof: Annotated[
        Proof,
        typer.Option(
            help="lock: QEMU's image lock, which goes with a dead host; guard: the failed host's guard has frozen "
            "its vms; fence: its power was cut by its fence device; confirm: somebody said so (zv host "
            "confirm-dead), or a fence; default: what its file system needs."
        ),
    ],
    as_json: Json = False,
) -> None:
    """Choose what must have happened before the vms of a failed host are started elsewhere."""
    _show(session.api().patch(f"/datastores/{name}", {"proof": proof.value}), as_json=as_json)


def _show(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        output.print_json(found)
        return
    of = {True: [h for h, r in found["hosts"].items() if r["is_usable"]],
          False: [f"{h}: {r['why']}" for h, r in found["hosts"].items() if not r["is_usable"]]}  # fmt: skip
    output.facts(
        [
            ("name", found["name"]),
            ("path", found["path"]),
            ("type", found["kind"]),
            ("shared", found["is_shared"]),
            ("proof of a dead host", f"{found['proof']}: {found['proof_why']}"),
            ("free", f"{output.size(found['free_bytes'])} of {output.size(found['total_bytes'])}"),
            ("usable on", of[True]),
            ("not on", of[False]),
        ]
    )


@datastore_app.command("remove", epilog="Example: zv datastore remove fast")
def remove_datastore(name: DatastoreName, yes: Yes = False) -> None:
    """Forget a datastore without registered vms; its files stay."""
    confirm(f"Forget datastore {name}? Its files stay.", yes=yes, first=lambda: _known(name))
    session.api().delete(f"/datastores/{name}")
    output.say(f"datastore {name} is forgotten; its files are untouched")


@network_app.command("add", epilog="Example: zv network add lan --bridge br0 --vlan 20")
def add_network(
    name: Annotated[str, typer.Argument(help="What to call it.")],
    bridge: Annotated[str, typer.Option(help="The bridge on the hosts.")],
    vlan: Annotated[int, typer.Option(min=0, max=4094, help="VLAN; 0: untagged.")] = 0,
    mtu: Annotated[int, typer.Option(min=0, max=65535, help="MTU; 0: the bridge's.")] = 0,
    host: Annotated[
        list[str] | None,
        typer.Option("--host", autocompletion=complete_host, help="Only on this host; repeat for more."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Add a network, or with --host another host's bridge to one."""
    body = {"name": name, "bridge": bridge, "vlan": vlan, "mtu": mtu, "hosts": host or []}
    made = session.api().post("/networks", body)
    if as_json:
        output.print_json(made)
    else:
        output.say(f"network {name} is on {', '.join(f'{h}: {b}' for h, b in made['bridges'].items())}")


@network_app.command("list", epilog="Example: zv network list")
def list_networks(as_json: Json = False) -> None:
    """All networks."""
    found = session.api().get("/networks")
    if as_json:
        output.print_json(found)
        return
    rows = [
        (n["name"], [f"{h}: {b}" for h, b in n["bridges"].items()], n["vlan"] or None, n["mtu"] or None)
        for n in found
    ]
    output.table(("NAME", "BRIDGES", "VLAN", "MTU"), rows, empty="no networks; see `zv network add --help`")


@network_app.command("remove", epilog="Example: zv network remove lan")
def remove_network(name: Annotated[str, typer.Argument(autocompletion=complete_network)]) -> None:
    """Forget a network that no vm uses."""
    session.api().delete(f"/networks/{name}")
    output.say(f"network {name} is removed")
