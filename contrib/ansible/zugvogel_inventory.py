#!/usr/bin/env python3
"""Ansible's dynamic inventory of a Zugvogel cluster: its vms and its hosts, in groups.

    ansible-inventory -i zugvogel_inventory.py --graph

The cluster is that of `zv`: its current context, or the one that $ZUGVOGEL_CONTEXT names. Or it is told by
$ZUGVOGEL_URLS (separated by commas), $ZUGVOGEL_TOKEN and $ZUGVOGEL_CA_FILE. A viewer's token is enough.

Run it with a Python that has the package `zugvogel`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from zugvogel.cli import context as contexts
from zugvogel.client import Client
from zugvogel.domain.answers import HostView
from zugvogel.domain.vm import VmView
from zugvogel.errors import NotFound, ZugvogelError

Member = tuple[str, dict[str, Any], list[str]]
"""Name in the inventory, its variables, its groups."""


def connect() -> Client:
    """Raises NotFound where no cluster is told, Refused, InvalidInput."""
    urls = os.environ.get("ZUGVOGEL_URLS", "")
    if urls:
        token, ca_file = os.environ.get("ZUGVOGEL_TOKEN", ""), os.environ.get("ZUGVOGEL_CA_FILE") or None
        return Client([url.strip() for url in urls.split(",")], token=token, ca_file=ca_file)
    chosen = contexts.chosen()
    if chosen.netns:
        contexts.enter_netns(chosen.netns)
    return Client(chosen.urls, token=chosen.token, ca_file=chosen.ca_file)


def inventory(hosts: Iterable[HostView], vms: Iterable[VmView]) -> dict[str, Any]:
    """As `--list` wants it. A host that has the name of a vm is listed as NAME.host."""
    hosts, vms = list(hosts), list(vms)
    taken = {vm.name for vm in vms}
    groups: dict[str, list[str]] = defaultdict(list)
    variables = {}
    for name, told, its_groups in [*map(_vm, vms), *(_host(host, taken) for host in hosts)]:
        variables[name] = told
        for group in its_groups:
            groups[group].append(name)
    return {group: {"hosts": names} for group, names in sorted(groups.items())} | {
        "_meta": {"hostvars": variables}
    }


def _vm(vm: VmView) -> Member:
    policy = vm.definition.ha
    told = {
        "zugvogel_kind": "vm",
        "zugvogel_host": vm.host,
        "zugvogel_state": vm.state.value,
        "zugvogel_addresses": list(vm.addresses),
        "zugvogel_macs": list(vm.macs),
        "zugvogel_memory_bytes": vm.memory_bytes,
        "zugvogel_cpus": vm.cpus,
        "zugvogel_datastore": vm.datastore,
        "zugvogel_networks": list(vm.networks),
        "zugvogel_restart_priority": policy.restart_priority.value,
        "zugvogel_description": vm.definition.description,
        **({"ansible_host": vm.addresses[0]} if vm.addresses else {}),
    }
    where = [_group("host", vm.host)] if vm.host else []
    networks = [_group("network", name) for name in dict.fromkeys(vm.networks)]
    state, priority = _group("state", vm.state.value), _group("priority", policy.restart_priority.value)
    return vm.name, told, ["zv_vms", *where, _group("datastore", vm.datastore), *networks, state, priority]


def _host(host: HostView, taken: set[str]) -> Member:
    told = {
        "ansible_host": host.address,
        "zugvogel_kind": "host",
        "zugvogel_verdict": host.verdict.value,
        "zugvogel_role": host.role.value,
        "zugvogel_failure_domain": host.failure_domain,
        "zugvogel_is_in_maintenance": host.is_in_maintenance,
        "zugvogel_cores": host.cores,
        "zugvogel_memory_total_bytes": host.memory_total_bytes,
        "zugvogel_vms": host.vms,
    }
    name = f"{host.name}.host" if host.name in taken else host.name
    domain = [_group("domain", host.failure_domain)] if host.failure_domain else []
    return (
        name,
        told,
        ["zv_hosts", _group("verdict", host.verdict.value), _group("role", host.role.value), *domain],
    )


def _group(kind: str, name: str) -> str:
    """Ansible takes letters, digits and underscores for the name of a group."""
    return f"zv_{kind}_" + re.sub(r"\W", "_", name, flags=re.ASCII)


def _arguments(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Ansible's dynamic inventory of a Zugvogel cluster.")
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("--list", action="store_true", help="all groups, and the variables of all")
    choice.add_argument("--host", metavar="NAME", help="the variables of one")
    return parser.parse_args(given)


def _answer(asked: argparse.Namespace) -> dict[str, Any]:
    with connect() as cluster:
        found = inventory(cluster.hosts(), cluster.vms())
    if asked.list:
        return found
    variables: dict[str, dict[str, Any]] = found["_meta"]["hostvars"]
    if asked.host not in variables:
        raise NotFound(f"there is no vm and no host {asked.host}", "see --list")
    return variables[asked.host]


def main(given: list[str] | None = None) -> int:
    asked = _arguments(given)
    try:
        print(json.dumps(_answer(asked), indent=2))
    except ZugvogelError as error:
        print(f"zugvogel_inventory: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
