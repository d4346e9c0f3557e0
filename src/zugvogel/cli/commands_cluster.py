"""`zv cluster`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from zugvogel.cli import context as contexts
from zugvogel.cli import output, session
from zugvogel.cli.options import HostArg, Json, Yes, confirm
from zugvogel.cli.paths import ConfigDir, StateDir, default_address, guess_name

app = typer.Typer(no_args_is_help=True, help="The cluster as a whole.")

API_PORT = 7440


@app.command(epilog="Example: zv cluster init --name prod --address 192.0.2.11")
def init(
    name: Annotated[str, typer.Option("--name", help="The cluster's name.")] = "zugvogel",
    host: Annotated[str, typer.Option("--host", help="This host's name; default: its host name.")] = "",
    address: Annotated[str, typer.Option(help="This host's address in the cluster's network.")] = "",
    config_dir: ConfigDir = Path("/etc/zugvogel"),
    state_dir: StateDir = Path("/var/lib/zugvogel"),
    as_json: Json = False,
) -> None:
    """Make this machine the first host of a new cluster: CA, keys, admin token. Run it as root."""
    from zugvogel.bootstrap.cluster_init import init_cluster

    host = host or guess_name()
    address = address or default_address()
    made = init_cluster(config_dir, state_dir, cluster=name, name=host, address=address)
    url = f"https://{address}:{API_PORT}"
    ca_file = state_dir / "pki" / "ca.crt"
    contexts.add(contexts.Context(name, (url,), made.admin_token, str(ca_file)), make_current=False)
    if as_json:
        output.print_json(
            {
                "cluster": name,
                "host": host,
                "address": address,
                "url": url,
                "token": made.admin_token,
                "ca_pem": made.ca_pem,
            }
        )
        return
    output.say(f"cluster {name} is made; {host} ({address}) is its first host")
    output.say(f"admin token, shown only here and kept in context {name}: {made.admin_token}")
    output.say("start the agent: zv agent install")
    output.say("add a host:      zv token join, then there: zv host join " + url + " --token T")


@app.command(epilog="Example: zv cluster show")
def show(as_json: Json = False) -> None:
    """Name, age, hosts and vms in numbers."""
    api = session.api()
    cluster, hosts, vms = api.get("/cluster"), api.get("/hosts"), api.get("/vms")
    counts = {
        "hosts": len(hosts),
        "hosts_live": sum(h["verdict"] == "live" for h in hosts),
        "primaries": [h["name"] for h in hosts if h["role"] == "primary"],
        "vms": len(vms),
        "vms_running": sum(v["state"] == "running" for v in vms),
    }
    if as_json:
        output.print_json(cluster | counts)
        return
    output.facts(
        [
            ("name", cluster["name"]),
            ("id", cluster["id"]),
            ("created", output.clock(cluster["created_at"])),
            ("hosts", f"{counts['hosts_live']} of {counts['hosts']} live"),
            ("primaries", counts["primaries"]),
            ("vms", f"{counts['vms_running']} of {counts['vms']} running"),
            ("cpu baseline", cluster["cpu_baseline"] or "not set yet"),
        ]
    )


@app.command(epilog="Example: zv cluster reconfigure")
def reconfigure(as_json: Json = False) -> None:
    """Give the roles of primary and secondary out anew, at random; etcd's members follow one by one."""
    changed = session.api().post("/cluster/reconfigure")["changed"]
    if as_json:
        output.print_json(changed)
        return
    output.table(("HOST", "ROLE NOW"), sorted(changed.items()), empty="the roles stay as they are")


@app.command(epilog="Example: zv cluster reform host2")
def reform(host: HostArg, yes: Yes = False) -> None:
    """Form the registry anew from HOST's data when its majority is gone for good and no host does so by itself."""
    confirm(
        f"What other hosts had newer than {host} (settings, vms that were created or deleted) will be lost, also "
        f"when those hosts come back. Form the registry anew from the data of {host}?",
        yes=yes,
        first=lambda: session.api().get(f"/hosts/{host}"),
    )
    session.api().post("/cluster/reform", {"host": host})
    output.say(f"{host} forms the registry anew; see: zv event list")


@app.command(
    epilog="Examples: zv cluster baseline · zv cluster baseline --set x86-64-v2 · zv cluster baseline --set auto"
)
def baseline(
    model: Annotated[str, typer.Option("--set", help="Model for new vms; auto: the best all hosts can run.")] = "",
    as_json: Json = False,
) -> None:
    """The CPU model that vms get, and which hosts stand against higher ones."""
    api = session.api()
    status = api.put("/cluster/baseline", {"model": model}) if model else api.get("/cluster/baseline")
    if as_json:
        output.print_json(status)
        return
    origin = "set" if status["is_set"] else "computed from the hosts"
    output.say(f"{status['current']} ({origin}); the best that every host can run is {status['best']}")
    output.table(
        ("MODEL", "EVERY HOST", "MISSING"), [_model(m, h) for m, h in status["missing"].items()], empty=""
    )


def _model(model: str, hosts: dict[str, Any]) -> tuple[str, bool, list[str]]:
    return model, not hosts, [f"{host}: {' '.join(flags)}" for host, flags in hosts.items()]
