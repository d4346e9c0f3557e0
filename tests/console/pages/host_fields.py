"""Fields of hosts, datastores, networks and high availability, as the watch tells them."""

from __future__ import annotations

from typing import Any

from tests.console.fake_api import filled_mirror
from zugvogel.console.mirror import Fields, Mirror

EXPLAINED = {
    "subject": "host1",
    "kind": "host",
    "judge": "host2",
    "judgement": "host1 is live: heartbeat heard",
    "evidence": ["it is a primary", "beat on san: stood still for 0.4 s"],
    "follows": "nothing",
}


def host(name: str = "host1", **fields: Any) -> Fields:
    """A primary in good order, with the bridge br0 and the datastore san."""
    return {
        "name": name,
        "role": "primary",
        "is_active_primary": False,
        "verdict": "live",
        "address": "198.51.100.1",
        "why": "heartbeat heard",
        "ordinal": 1,
        "joined_at": "2026-01-01T00:00:00Z",
        "heartbeat_age_s": 0.3,
        "beat_ages_s": {"san": 0.4},
        "load1": 2.0,
        "is_in_maintenance": False,
        "failure_domain": "rack1",
        "cores": 16,
        "memory_total_bytes": 64 * 2**30,
        "memory_available_bytes": 48 * 2**30,
        "reserved_bytes": 2**30,
        "link_mbit": 10000,
        "cpu": "a CPU",
        "cpu_vendor": "GenuineIntel",
        "cpu_flags": ["avx2", "sse4_2"],
        "qemu_version": "10.0.2",
        "accelerator": "kvm",
        "agent_version": "1.0",
        "bridges": [{"name": "br0", "mtu": 1500, "is_vlan_aware": False}],
        "datastores": [report()],
        "vms": [],
        **fields,
    }


def report(**fields: Any) -> Fields:
    return {
        "name": "san",
        "is_usable": True,
        "fs_type": "gfs2",
        "free_bytes": 2**39,
        "total_bytes": 2**40,
        "why": "",
        **fields,
    }


def store(name: str = "san", **fields: Any) -> Fields:
    return {
        "name": name,
        "path": f"/srv/{name}",
        "kind": "GFS2",
        "id": f"id-{name}",
        "is_shared": True,
        "added_at": "2026-01-01T00:00:00Z",
        "proof": "lock",
        "proof_why": "its image locks go with a dead host",
        "is_proof_chosen": False,
        "is_usable": True,
        "free_bytes": 2**39,
        "total_bytes": 2**40,
        "hosts": {"host1": report(name=name)},
        **fields,
    }


def network(name: str = "lan", **fields: Any) -> Fields:
    return {"name": name, "bridges": {"*": "br0"}, "vlan": 0, "mtu": 0, **fields}


def protection(name: str, subject: str, is_present: bool, why: str = "so") -> Fields:
    return {"name": name, "subject": subject, "is_present": is_present, "why": why}


def ha(**fields: Any) -> Fields:
    return {
        "enabled": True,
        "active_primary": "host2",
        "active_primaries": {"san": "host2"},
        "failover_level": 1,
        "admission": {
            "used": 2**30,
            "reserved": 2**30,
            "free": 2**30,
            "largest": 2**29,
            "is_met": True,
            "why": "it fits",
        },
        "detection_time_ms": 15000,
        "protections": [protection("power fence", "host1", False, "no device is configured")],
        "restarting": [],
        **fields,
    }


def mirror_of(*hosts: Fields, **topics: Any) -> Mirror:
    """`ha` is its fields; other topics are lists, by their name or id."""
    state = topics.pop("ha", ha())
    keyed = {t: {str(each.get("name") or each.get("id")): each for each in values} for t, values in topics.items()}
    return filled_mirror(hosts={each["name"]: each for each in hosts}, ha={"ha": state}, **keyed)
