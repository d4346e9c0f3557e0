"""`zv vm`: definition and life of vms. Migration, console and logs are in their own files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from zugvogel.cli import commands_vm_migrate, commands_vm_suspend, commands_vm_watch, output, session, watch
from zugvogel.cli.options import (
    Detach,
    Display,
    DisplayOption,
    Json,
    NewDisplayOption,
    Vm,
    Yes,
    complete_datastore,
    complete_host,
    complete_network,
    confirm,
)
from zugvogel.cli.vm_policy import (
    AntiAffinityOption,
    MonitoringOption,
    PreferOption,
    PriorityOption,
    ResponseOption,
    policy_of,
)
from zugvogel.cli.vm_policy import facts as policy_facts
from zugvogel.errors import InvalidInput

app = typer.Typer(no_args_is_help=True, help="Virtual machines.")
app.command(
    "migrate",
    epilog="Examples: zv vm migrate web1 · zv vm migrate web1 --mode quick --to host2 · --dry-run only checks",
)(commands_vm_migrate.migrate)
app.command("suspend", epilog="Examples: zv vm suspend web1 · zv vm suspend web1 --compress")(
    commands_vm_suspend.suspend
)
app.command("resume", epilog="Examples: zv vm resume web1 · zv vm resume web1 --on host2")(
    commands_vm_suspend.resume
)
app.command("discard", epilog="Example: zv vm discard web1 --yes")(commands_vm_suspend.discard)
app.command("console", epilog="Example: zv vm console web1   (Ctrl-] leaves)")(commands_vm_watch.console)
app.command(
    "display", epilog="Examples: zv vm display web1 · zv vm display web1 --port 5901 · zv vm display web1 --launch"
)(commands_vm_watch.display)
app.command("log", epilog="Example: zv vm log web1 --lines 50")(commands_vm_watch.log)

NetworkOption = Annotated[
    list[str] | None,
    typer.Option("--network", autocompletion=complete_network, help="A NIC in this network; repeat for more."),
]
DiskOption = Annotated[
    list[str] | None, typer.Option("--disk", help="A disk of this size, e.g. 20G or 20G,raw; repeat for more.")
]
DatastoreOption = Annotated[
    str | None, typer.Option(autocompletion=complete_datastore, help="Default: the only one there is.")
]
CpusOption = Annotated[int, typer.Option(min=1, max=512, help="Number of virtual CPUs.")]


def parse_disk(text: str) -> dict[str, Any]:
    """'20G' or '20G,raw'. Format mistakes are told by the API."""
    amount, _, kind = text.partition(",")
    return {"size_bytes": output.parse_size(amount), "format": kind or "qcow2"}


def host_file(text: str) -> str:
    """A path becomes absolute; what cannot be one stays a name (of an image on the datastore)."""
    if not text or (not re.search(r"/", text) and not Path(text).is_file()):
        return text
    return str(Path(text).absolute())


def _end(task: dict[str, Any], told: str, *, as_json: bool, detach: bool = False) -> None:
    """Wait for the task (unless detached) and tell its result."""
    if not detach:
        task = watch.finish(task, as_json=as_json)
    if as_json:
        output.print_json(task)
    else:
        output.say(f"task {task['id']}; watch it: zv task watch {task['id']}" if detach else told)


@app.command(epilog="Example: zv vm create web1 --memory 2G --cpus 2 --disk 20G --image debian-12")
def create(
    name: Annotated[str, typer.Argument(help="Lower case letters, digits and . _ - inside.")],
    memory: Annotated[str, typer.Option(help="For example 512M or 2G.")],
    cpus: CpusOption = 1,
    datastore: DatastoreOption = None,
    network: NetworkOption = None,
    no_network: Annotated[bool, typer.Option("--no-network", help="No NIC at all.")] = False,
    disk: DiskOption = None,
    image: Annotated[str, typer.Option(help="Image of the datastore by name, or a file on the host.")] = "",
    kernel: Annotated[str, typer.Option(help="Boot this kernel directly.")] = "",
    initrd: Annotated[str, typer.Option(help="Its initial RAM disk.")] = "",
    append: Annotated[str, typer.Option(help="Its command line.")] = "",
    cloud_init: Annotated[str, typer.Option(help="NoCloud user-data file.")] = "",
    cpu_model: Annotated[str, typer.Option(help="Default: the cluster's baseline.")] = "",
    mac: Annotated[str, typer.Option(help="MAC of the first NIC; default: a new one.")] = "",
    display: NewDisplayOption = Display.VGA,
    description: Annotated[str, typer.Option(help="For people.")] = "",
    restart_priority: PriorityOption = None,
    isolation_response: ResponseOption = None,
    anti_affinity: AntiAffinityOption = None,
    prefer: PreferOption = None,
    monitoring: MonitoringOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also when its start would take the room kept for failures of hosts.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a vm. It is not started."""
    body = {
        "name": name,
        "memory_bytes": output.parse_size(memory),
        "cpus": cpus,
        "datastore": datastore,
        "networks": [] if no_network else network,
        "disks": [parse_disk(d) for d in disk or []],
        "image": host_file(image),
        "kernel": host_file(kernel),
        "initrd": host_file(initrd),
        "append": append,
        "cloud_init": host_file(cloud_init),
        "cpu_model": cpu_model,
        "mac": mac,
        "display": display.value,
        "description": description,
        "ha": policy_of(restart_priority, isolation_response, anti_affinity, prefer, monitoring),
        "is_forced": force,
    }
    _end(session.api().post("/vms", body), f"{name} is made; start it: zv vm start {name}", as_json=as_json)


@app.command(epilog="Examples: zv vm start web1 · zv vm start web1 --on host2 · zv vm start web1 --force")
def start(
    name: Vm,
    host: Annotated[
        str | None, typer.Option("--on", "--host", autocompletion=complete_host, help="Default: the best host.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also when it takes the room kept for failures of hosts.")
    ] = False,
    as_json: Json = False,
    detach: Detach = False,
) -> None:
    """Start a vm."""
    task = session.api().post(f"/vms/{name}/start", {"host": host, "is_forced": force})
    _end(task, f"{name} runs", as_json=as_json, detach=detach)


@app.command(epilog="Example: zv vm stop web1 --timeout 60")
def stop(
    name: Vm,
    timeout: Annotated[int, typer.Option(min=0, max=3600, help="Seconds to wait; 0: vm.stoptimeout.")] = 0,
    as_json: Json = False,
    detach: Detach = False,
) -> None:
    """Press a vm's power button and wait until it is off."""
    task = session.api().post(f"/vms/{name}/stop", {"timeout_s": timeout})
    _end(task, f"{name} is stopped", as_json=as_json, detach=detach)


@app.command(epilog="Example: zv vm kill web1")
def kill(name: Vm, as_json: Json = False) -> None:
    """Cut a vm's power. What it had not written is lost."""
    _end(session.api().post(f"/vms/{name}/kill"), f"{name} is off", as_json=as_json)


@app.command(epilog="Example: zv vm reset web1")
def reset(name: Vm, as_json: Json = False) -> None:
    """Press a vm's reset button."""
    answer = session.api().post(f"/vms/{name}/reset")
    if as_json:
        output.print_json(answer)
    output.say(f"{name} was reset", as_json=as_json)


@app.command("list", epilog="Example: zv vm list --json")
def list_vms(as_json: Json = False) -> None:
    """All vms; with high availability enabled their restart priority too."""
    found = session.api().get("/vms")
    if as_json:
        output.print_json(found)
        return
    has_priority = bool(found) and _is_ha_enabled()
    output.table(
        (
            "NAME",
            "STATE",
            "HOST",
            *(["PRIORITY"] if has_priority else []),
            "CPUS",
            "MEMORY",
            "ADDRESSES",
            "DATASTORE",
            "WHY",
        ),
        [
            (
                v["name"],
                v["state"],
                v["host"],
                *([v["definition"]["ha"]["restart_priority"]] if has_priority else []),
                v["cpus"],
                output.size(v["memory_bytes"]),
                v["addresses"],
                v["datastore"],
                "migrating" if v["is_migrating"] else v["why"],
            )
            for v in found
        ],
        empty="no vms; see `zv vm create --help`",
    )


def _is_ha_enabled() -> bool:
    return any(s["name"] == "das.enabled" and s["value"] is True for s in session.api().get("/settings"))


@app.command(epilog="Example: zv vm show web1 --json")
def show(name: Vm, as_json: Json = False) -> None:
    """One vm."""
    vm = session.api().get(f"/vms/{name}")
    if as_json:
        output.print_json(vm)
        return
    definition = vm["definition"]
    output.facts(
        [
            ("name", vm["name"]),
            ("state", vm["state"]),
            ("host", vm["host"]),
            ("why", vm["why"]),
            ("wanted", vm["wanted"]),
            ("addresses", vm["addresses"]),
            ("nics", [f"{n['mac']} in {n['network']}" for n in definition["nics"]]),
            ("cpus", f"{vm['cpus']} ({definition['cpu_model']})"),
            ("memory", output.size(vm["memory_bytes"])),
            (
                "disks",
                [f"{d['file']} ({output.size(d['size_bytes'])}, {d['cache']})" for d in definition["disks"]],
            ),
            ("datastore", vm["datastore"]),
            ("machine", definition["machine"]),
            ("display", definition["display"]),
            ("lease epoch", vm["epoch"]),
            *policy_facts(definition["ha"]),
            ("description", definition["description"]),
        ]
    )


@app.command(
    "set",
    epilog="Examples: zv vm set web1 --memory 4G --cpus 4 · zv vm set web1 --restart-priority high "
    "--isolation-response suspend",
)
def set_vm(
    name: Vm,
    memory: Annotated[str | None, typer.Option(help="For example 4G.")] = None,
    cpus: Annotated[int | None, typer.Option(min=1, max=512, help="Number of virtual CPUs.")] = None,
    cpu_model: Annotated[str | None, typer.Option(help="CPU model.")] = None,
    append: Annotated[str | None, typer.Option(help="Kernel command line.")] = None,
    display: DisplayOption = None,
    description: Annotated[str | None, typer.Option(help="For people.")] = None,
    add_disk: Annotated[list[str] | None, typer.Option("--add-disk", help="Size of a new disk.")] = None,
    add_network: Annotated[
        list[str] | None, typer.Option("--add-network", autocompletion=complete_network, help="A new NIC there.")
    ] = None,
    restart_priority: PriorityOption = None,
    isolation_response: ResponseOption = None,
    anti_affinity: AntiAffinityOption = None,
    prefer: PreferOption = None,
    monitoring: MonitoringOption = None,
    as_json: Json = False,
) -> None:
    """Change a vm. A running one gets new memory, CPUs, CPU model and display at its next start; priority,
    isolation response, group, preferred hosts and monitoring count at once."""
    policy = policy_of(restart_priority, isolation_response, anti_affinity, prefer, monitoring)
    body = {
        "memory_bytes": output.parse_size(memory) if memory is not None else None,
        "cpus": cpus,
        "cpu_model": cpu_model,
        "append": append,
        "display": display.value if display else None,
        "description": description,
        "add_disks": [parse_disk(d) for d in add_disk or []],
        "add_networks": add_network or [],
        "ha": policy or None,
    }
    if all(value is None or value == [] for value in body.values()):
        raise InvalidInput(
            f"nothing of {name} is to be changed", f"e.g. zv vm set {name} --memory 4G; see: zv vm set --help"
        )
    changed = session.api().patch(f"/vms/{name}", body)
    if as_json:
        output.print_json(changed)
        return
    is_late = changed["state"] == "running" and any(v for k, v in body.items() if k not in {"ha", "description"})
    output.say(f"{name} is changed" + ("; it takes effect at its next start" if is_late else ""))
    if changed["state"] == "running" and policy.get("monitoring") in {"crash", "guest"}:
        output.note("a panic device or watchdog that it was started without comes with its next start")


@app.command(epilog="Example: zv vm delete web1 --yes")
def delete(name: Vm, yes: Yes = False, as_json: Json = False) -> None:
    """Remove a stopped vm with its disks, for good."""
    confirm(f"Delete {name} and all its disks for good?", yes=yes, first=lambda: session.api().get(f"/vms/{name}"))
    _end(session.api().delete(f"/vms/{name}"), f"{name} and its disks are deleted", as_json=as_json)


@app.command(epilog="Example: zv vm register web1 --datastore fast")
def register(name: Vm, datastore: DatastoreOption = None, as_json: Json = False) -> None:
    """Take over a vm folder found on a datastore."""
    vm = session.api().post(f"/vms/{name}/register", {"datastore": datastore})
    if as_json:
        output.print_json(vm)
    output.say(f"{name} is registered from {vm['datastore']}", as_json=as_json)


@app.command(epilog="Example: zv vm unregister web1")
def unregister(name: Vm, as_json: Json = False) -> None:
    """Forget a stopped vm; its folder stays on the datastore."""
    answer = session.api().post(f"/vms/{name}/unregister")
    if as_json:
        output.print_json(answer)
    output.say(f"{name} is forgotten; its folder stays", as_json=as_json)
