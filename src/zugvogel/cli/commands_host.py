"""`zv host`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from zugvogel.cli import commands_fence, output, session, watch
from zugvogel.cli.commands_vm_migrate import tell_detached
from zugvogel.cli.options import Detach, HostArg, Json, Yes, confirm
from zugvogel.cli.paths import ConfigDir, StateDir, guess_address, guess_name
from zugvogel.errors import InvalidInput, NotFound, Refused

app = typer.Typer(no_args_is_help=True, help="Hosts of the cluster.")
app.command("fence-config", epilog=commands_fence.EPILOG)(commands_fence.fence_config)


class Switch(StrEnum):
    ON = "on"
    OFF = "off"


@app.command("list", epilog="Example: zv host list --json")
def list_hosts(as_json: Json = False) -> None:
    """All hosts with their role and verdict. primary*: an active primary, which judges hosts and restarts vms."""
    hosts = session.api().get("/hosts")
    if as_json:
        output.print_json(hosts)
        return
    output.table(
        ("NAME", "ROLE", "VERDICT", "ADDRESS", "CORES", "MEMORY", "FREE", "VMS", "WHY"),
        [
            (
                h["name"],
                _role(h),
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


def _role(host: dict[str, Any]) -> str:
    return f"{host['role']}*" if host["is_active_primary"] else str(host["role"])


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
        ("role", f"{host['role']}, active" if host["is_active_primary"] else host["role"]),
        ("failure domain", host["failure_domain"]),
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


@app.command("set", epilog="Example: zv host set host3 --failure-domain rack2")
def change(
    name: HostArg,
    failure_domain: Annotated[
        str, typer.Option("--failure-domain", help="Label of what fails together (rack, room); '' takes it away.")
    ],
    as_json: Json = False,
) -> None:
    """Say where a host stands: primaries are spread over failure domains."""
    host = session.api().patch(f"/hosts/{name}", {"failure_domain": failure_domain})
    if as_json:
        output.print_json(host)
    told = f"{name} is in failure domain {failure_domain}" if failure_domain else f"{name} has no failure domain"
    output.say(told, as_json=as_json)


@app.command(
    epilog="Examples: zv host maintenance host3 on · zv host maintenance host3 on --quick-fallback · "
    "zv host maintenance host3 off --return"
)
def maintenance(
    name: HostArg,
    switch: Annotated[Switch, typer.Argument(metavar="on|off", help="Begin or end maintenance.")],
    quick_fallback: Annotated[
        bool,
        typer.Option("--quick-fallback", help="Move by quick migration what cannot be moved while it runs."),
    ] = False,
    bring_back: Annotated[
        bool, typer.Option("--return", help="With off: bring the vms back that were moved away.")
    ] = False,
    as_json: Json = False,
    detach: Detach = False,
) -> None:
    """Empty a host by live migration and keep it empty; or let it take vms again."""
    if bring_back and switch is Switch.ON:
        raise InvalidInput("--return is for the end of maintenance", f"zv host maintenance {name} off --return")
    wish = {"is_on": switch is Switch.ON, "is_quick_fallback": quick_fallback, "is_return": bring_back}
    task = session.api().post(f"/hosts/{name}/maintenance", wish)
    if detach:
        tell_detached(task, as_json=as_json)
        return
    task = watch.follow(task, as_json=as_json)
    report = task["report"]
    if as_json and report:
        output.print_json(report)
    elif report:
        _tell_maintenance(report)
    if task["state"] != "done":
        raise watch.error_of(task)


def _tell_maintenance(report: dict[str, Any]) -> None:
    name = report["host"]
    output.say(f"{name} is in maintenance" if report["is_in_maintenance"] else f"{name} takes vms")
    if report["successor"]:
        output.say(f"{report['successor']} is a primary in its place")
    if report["vms"]:
        output.table(
            ("VM", "RESULT", "HOW", "HOST", "WHY"),
            [(m["vm"], m["result"], m["how"], m["host"], m["why"]) for m in report["vms"]],
            empty="",
        )


@app.command(epilog="Example: zv host remove host3")
def remove(name: HostArg, yes: Yes = False) -> None:
    """Forget a host that is gone for good and holds no vm."""
    confirm(f"Remove host {name} from the cluster?", yes=yes, first=lambda: session.api().get(f"/hosts/{name}"))
    session.api().delete(f"/hosts/{name}")
    output.say(f"{name} is removed")


@app.command("confirm-dead", epilog="Example: zv host confirm-dead host3 --yes")
def confirm_dead(name: HostArg, yes: Yes = False, as_json: Json = False) -> None:
    """Vouch that a failed host runs nothing any more, so that its vms can be started elsewhere."""
    confirm(
        f"Nothing proves that {name} is dead: it may hang, or be cut off, and still run its vms. A vm that runs "
        f"twice destroys its disks. Is the power of {name} off, and will it stay off until its vms run elsewhere?",
        yes=yes,
        first=lambda: _refuse_alive(name),
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


def _refuse_alive(name: str) -> None:
    """What the API refuses is refused before anybody is asked to vouch for it. A host that was removed though a
    vm's lease names it is known by its leases alone, which only the API reads."""
    api = session.api()
    for host in api.get("/hosts"):
        if host["name"] == name:
            if host["verdict"] != "failed":
                raise Refused(
                    f"{name} is {host['verdict']}, so it may run vms: {host['why']}",
                    "cut its power first, and wait until zv host list shows it as failed",
                )
            return
    if all(vm["host"] != name for vm in api.get("/vms")):
        raise NotFound(
            f"there is no host {name}, and no vm was seen on it",
            f"see: zv host list; where a lease names it all the same: zv host confirm-dead {name} --yes",
        )
