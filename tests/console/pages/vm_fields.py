"""Fields of vms, hosts and tasks, as the watch tells them."""

from __future__ import annotations

from typing import Any

from tests.console.fake_api import filled_mirror
from zugvogel.console.mirror import Fields, Mirror


def vm(name: str = "web1", **fields: Any) -> Fields:
    """Running on host1. `ha`, `display`, `disks` go into its definition."""
    policy = {
        "restart_priority": "medium",
        "isolation_response": "default",
        "anti_affinity": "",
        "preferred_hosts": [],
        "monitoring": "crash",
        **fields.pop("ha", {}),
    }
    definition = {
        "name": name,
        "uuid": "u-1",
        "memory_bytes": 2**30,
        "cpus": 2,
        "machine": "pc-q35-7.2",
        "cpu_model": "x86-64-v2",
        "disks": [
            {"file": "disk0", "format": "qcow2", "size_bytes": 20 * 2**30, "cache": "none", "is_readonly": False}
        ],
        "nics": [{"network": "lan", "mac": "52:54:00:00:00:01"}],
        "boot": None,
        "cloud_init": "",
        "display": "vga",
        "description": "",
        "ha": policy,
        **fields.pop("definition", {}),
    }
    return {
        "name": name,
        "host": "host1",
        "state": "running",
        "addresses": ["198.51.100.10"],
        "mac": "52:54:00:00:00:01",
        "macs": ["52:54:00:00:00:01"],
        "memory_bytes": 2**30,
        "cpus": 2,
        "datastore": "shared",
        "networks": ["lan"],
        "wanted": "running",
        "epoch": 3,
        "why": "started",
        "is_migrating": False,
        "definition": definition,
        **fields,
    }


def host(name: str, **fields: Any) -> Fields:
    return {"name": name, "verdict": "live", "memory_available_bytes": 2**33, **fields}


def mirror_of(*vms: Fields, **topics: dict[str, Any]) -> Mirror:
    known = {"hosts": {n: host(n) for n in ("host1", "host2")}, "networks": {"lan": {"name": "lan"}}, **topics}
    known.setdefault("datastores", {"shared": {"name": "shared", "free_bytes": 2**40}})
    return filled_mirror(vms={each["name"]: each for each in vms}, **known)


EXPLAINED = {
    "subject": "web1",
    "kind": "vm",
    "judge": "host2",
    "judgement": "web1 runs on host1, epoch 3",
    "evidence": ["lease on shared: epoch 3, running"],
    "follows": "if host1 fails: restarted",
}
