"""`zv host`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from zugvogel.cli import output, session, watch
from zugvogel.cli.options import HostArg, Json, Yes, confirm
from zugvogel.cli.paths import ConfigDir, StateDir, guess_address, guess_name

app = typer.Typer(no_args_is_help=True, help="Hosts of the cluster.")


@app.command("list", epilog="Example: zv host list --json")
def list_hosts(as_json: Json = False) -> None:
    """All hosts with their role and verdict."""
    hosts = session.api().get("/hosts")
    if as_json:
        output.print_json(hosts)
        return
    output.table(
        ("NAME", "ROLE", "VERDICT", "ADDRESS", "CORES", "MEMORY", "FREE", "VMS", "WHY"),
        [
            (
                h["name"],
                h["role"],
                h["verdict"],
                h["address"],
                h["cores"] or None,
                output.size(h["memory_total_bytes"]) if h["memory_total_bytes"] else None,
                output.size(h["memory_available_bytes"]) if h["memory_available_bytes"] else None,
                len(h["vms"]),
                h["why"],
            )
            for h in hosts
        ],
        empty="no hosts",
    )


@app.command(epilog="Example: zv host show host1")
def show(name: HostArg, as_json: Json = False) -> None:
    """One host: facts, datastores, networks, vms."""
    host = session.api().get(f"/hosts/{name}")
    if as_json:
        output.print_json(host)
        return
    output.facts(_facts(host))
    output.say("")
    output.table(
        ("DATASTORE", "USABLE", "TYPE", "FREE", "WHY"),
        [
            (d["name"], d["is_usable"], d["fs_type"], output.size(d["free_bytes"]), d["why"])
            for d in host["datastores"]
        ],
        empty="it reports no datastores",
    )


def _facts(host: dict[str, Any]) -> list[tuple[str, Any]]:
    age = host["heartbeat_age_s"]
    return [
        ("name", host["name"]),
        ("verdict", host["verdict"]),
        ("why", host["why"]),
        ("role", host["role"]),
        ("address", host["address"]),
        ("last heartbeat", f"{age:.1f} s ago" if age is not None else None),
        ("cpu", f"{host['cores']} x {host['cpu']}"),
        (
            "memory",
            f"{output.size(host['memory_available_bytes'])} of {output.size(host['memory_total_bytes'])} free",
        ),
        ("load", f"{host['load1']:.2f}"),
        ("link", f"{host['link_mbit']} Mbit/s" if host["link_mbit"] else None),
        ("bridges", [b["name"] for b in host["bridges"]]),
        ("qemu", f"{host['qemu_version']} ({host['accelerator']})"),
        ("agent", host["agent_version"]),
        ("vms", host["vms"]),
    ]


@app.command(epilog="Example: zv host join https://host1:7440 --token T   (the token: `zv token join` on host1)")
def join(
    url: Annotated[str, typer.Argument(metavar="URL", help="API address of any host of the cluster.")],
    token: Annotated[str, typer.Option(help="One-time token of `zv token join`.")],
    name: Annotated[str, typer.Option(help="This host's name; default: its host name.")] = "",
    address: Annotated[str, typer.Option(help="This host's address in the cluster's network.")] = "",
    config_dir: ConfigDir = Path("/etc/zugvogel"),
    state_dir: StateDir = Path("/var/lib/zugvogel"),
    as_json: Json = False,
) -> None:
    """Make this machine a host of the cluster at URL. Run it there, as root."""
    from zugvogel.bootstrap.cluster_init import join_cluster

    name = name or guess_name()
    address = address or guess_address(url)
    join_cluster(config_dir, state_dir, url=url.rstrip("/"), token=token, name=name, address=address)
    if as_json:
        output.print_json({"name": name, "address": address})
    output.say(f"{name} ({address}) has joined; start its agent: zv agent install", as_json=as_json)


@app.command(epilog="Example: zv host remove host3")
def remove(name: HostArg, yes: Yes = False) -> None:
    """Forget a host that is gone for good and holds no vm."""
    confirm(f"Remove host {name} from the cluster?", yes=yes)
    session.api().delete(f"/hosts/{name}")
    output.say(f"{name} is removed")


@app.command("confirm-dead", epilog="Example: zv host confirm-dead host3 --yes")
def confirm_dead(name: HostArg, yes: Yes = False, as_json: Json = False) -> None:
    """Vouch that a failed host runs nothing any more, so that its vms can be started elsewhere."""
    confirm(
        f"Nothing proves that {name} is dead: it may hang, or be cut off, and still run its vms. A vm that runs "
        f"twice destroys its disks. Is the power of {name} off, and will it stay off until its vms run elsewhere?",
        yes=yes,
    )
    task = watch.finish(session.api().post(f"/hosts/{name}/confirm-dead"), as_json=as_json)
    if as_json:
        output.print_json(task["report"])
        return
    released, left = task["report"]["released"], task["report"]["left"]
    output.say(
        f"released: {', '.join(released)}; start them: zv vm start NAME" if released else f"{name} held no vm"
    )
    for vm, why in left.items():
        output.say(f"left as it is: {vm}: {why}")
