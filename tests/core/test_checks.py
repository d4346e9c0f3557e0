"""Pre-checks L1 to L6: each refuses for its own cause, all are shown."""

from __future__ import annotations

from typing import Any

import pytest

from tests.core.facts import GIB, cpu, definition, facts, status
from zugvogel.core.checks import check_migration, free_memory_bytes
from zugvogel.domain.datastore import Datastore
from zugvogel.domain.host import BridgeFacts, DatastoreReport, Verdict, VmReport
from zugvogel.domain.migration import FindingLevel
from zugvogel.domain.network import Network
from zugvogel.domain.vm import VmState


def refused(**changes: Any) -> dict[str, str]:
    """code -> cause of everything that is refused."""
    found = check_migration(facts(**changes))
    return {f.code: f.cause for f in found if f.level is FindingLevel.REFUSED}


def test_two_equal_hosts_are_fine_and_every_line_is_answered() -> None:
    found = check_migration(facts())
    assert {f.code for f in found} == {"vm", "hosts", "L1", "L2", "L3", "L4", "L5", "L6", "qemu"}
    assert all(f.level is FindingLevel.OK for f in found)


def test_l1_a_datastore_the_target_does_not_reach() -> None:
    target = status("host2", 2)
    assert target.report is not None
    gone = DatastoreReport(name="nfs1", is_usable=False, why="no beat for 9 s")
    report = target.report.model_copy(update={"datastores": (gone,)})
    cause = refused(target=target.model_copy(update={"report": report}))["L1"]
    assert "host2" in cause
    assert "no beat for 9 s" in cause


def test_l2_a_local_file_system() -> None:
    local = Datastore(name="nfs1", id="d", path="/srv", kind="ext4", is_shared=False)
    assert "ext4" in refused(datastore=local)["L2"]


def test_l3_a_slow_link_is_refused_and_an_unknown_one_warned_of() -> None:
    assert "100 Mbit/s" in refused(target=status("host2", 2, link_mbit=100))["L3"]
    unknown = check_migration(
        facts(source=status("host1", 1, link_mbit=0), target=status("host2", 2, link_mbit=0))
    )
    assert next(f for f in unknown if f.code == "L3").level is FindingLevel.WARNING


def test_l4_vendors_never_mix_even_with_a_baseline() -> None:
    assert "never mix" in refused(target=status("host2", 2, cpu=cpu(vendor="AuthenticAMD")))["L4"]


def test_l4_missing_flags_are_named() -> None:
    assert "avx2" in refused(missing_flags=("avx2", "fma"), cpu_model="x86-64-v3")["L4"]


@pytest.mark.parametrize("field", ["family", "model", "stepping"])
def test_l4_the_hosts_own_model_needs_the_same_cpu(field: str) -> None:
    other = status("host2", 2, cpu=cpu(**{field: 1}))
    assert "L4" in refused(target=other, cpu_model="host")
    assert "L4" not in refused(target=other, cpu_model="x86-64-v2")


def test_l4_the_hosts_own_model_needs_the_same_flags() -> None:
    lesser = status("host2", 2, cpu=cpu(flags=frozenset({"sse4_2"})))
    assert "avx2" in refused(target=lesser, cpu_model="host")["L4"]


def test_l5_bridge_vlan_and_mtu() -> None:
    assert "no bridge br0" in refused(target=status("host2", 2, bridges=()))["L5"]
    assert "VLAN 7" in refused(target=status("host2", 2, vlan_overrides={"lan": 7}))["L5"]
    jumbo = (BridgeFacts(name="br0", mtu=9000),)
    assert "9000 on host2" in refused(target=status("host2", 2, bridges=jumbo))["L5"]


def test_l5_a_vlan_needs_a_bridge_that_filters_on_the_target() -> None:
    networks = (Network(name="lan", bridges={"*": "br0"}, vlan=7),)
    assert "does not filter VLANs" in refused(networks=networks)["L5"]
    aware = status("host2", 2, bridges=(BridgeFacts(name="br0", mtu=1500, is_vlan_aware=True),))
    assert "L5" not in refused(target=aware, networks=networks)


def test_the_task_of_a_move_is_found_by_a_command_that_exists() -> None:
    steps = [f.next_step for f in check_migration(facts(is_migrating=True)) if f.code == "vm"]
    assert steps == ["watch it with: zv task list --subject web1"]


def test_l6_memory_counts_promises_and_cpus_count_cores() -> None:
    promised = VmReport(name="db", state=VmState.RUNNING, epoch=1, memory_bytes=15 * GIB, cpus=1)
    full = status("host2", 2, vms=(promised,))
    assert "needs 2.06 GiB" in refused(target=full)["L6"]
    assert full.report is not None
    assert free_memory_bytes(full.report) < GIB
    assert "only 1 cores" in refused(target=status("host2", 2, cores=1))["L6"]


def test_all_findings_are_shown_not_only_the_first() -> None:
    target = status("host2", 2, link_mbit=10, cores=1, cpu=cpu(vendor="AuthenticAMD"), bridges=())
    assert {"L3", "L4", "L5", "L6"} <= set(refused(target=target))


def test_a_vm_that_is_stopped_busy_or_there_already() -> None:
    assert "stopped" in refused(state=VmState.STOPPED)["vm"]
    assert "being migrated" in refused(is_migrating=True)["vm"]
    assert "already" in refused(target=status("host1", 1))["hosts"]
    dead = status("host2", 2).model_copy(update={"verdict": Verdict.FAILED, "why": "no heartbeat for 20 s"})
    assert "no heartbeat for 20 s" in refused(target=dead)["hosts"]


def test_an_older_qemu_never_takes_a_newer_ones_vm() -> None:
    assert "qemu" in refused(target=status("host2", 2, qemu_version="7.2.22"))
    assert "qemu" not in refused(source=status("host1", 1, qemu_version="7.2.22"))


def test_every_refusal_names_a_next_step() -> None:
    target = status("host2", 2, link_mbit=10, cores=1, cpu=cpu(vendor="AuthenticAMD"), bridges=())
    found = check_migration(facts(target=target, vm=definition(memory_bytes=64 * GIB), state=VmState.STOPPED))
    assert all(f.next_step for f in found if f.level is FindingLevel.REFUSED)
