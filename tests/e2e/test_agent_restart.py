"""Agents, hosts and etcd come and go; the vms and the answers stay what they are."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cluster import Cluster
from zugvogel.adapters.datastore.direct_io import write_block
from zugvogel.adapters.datastore.sealed import seal
from zugvogel.domain.datastore import Beat

pytestmark = pytest.mark.lab

VM = "stayer"
OTHER = "boot of another machine"


@pytest.fixture(scope="module")
def running(cluster: Cluster) -> Iterator[str]:
    cluster.zv("vm", "create", VM, "--memory", "128M", "--image", "lab-guest")
    yield VM
    cluster.remove(VM)


@pytest.fixture
def vm(cluster: Cluster, running: str) -> str:
    """Runs on host2."""
    cluster.boot(VM, "host2")
    return running


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_vms_outlive_their_agent(cluster: Cluster, vm: str, number: signal.Signals) -> None:
    before, qemus, lease = cluster.guest(VM), cluster.qemus(VM), cluster.lease(VM)
    agent = cluster.agent_pid("host2")
    os.kill(agent, number)
    cluster.wait("another agent", lambda: cluster.agent_pid("host2") != agent)
    cluster.all_live()
    cluster.wait("the vm to be told as running", lambda: cluster.vm(VM)["state"] == "running")

    assert cluster.assert_runs_once(VM) == "host2"
    assert cluster.qemus(VM) == qemus
    assert cluster.lease(VM)["epoch"] == lease["epoch"]
    after = cluster.guest(VM)
    assert after["boot_id"] == before["boot_id"]
    assert after["counter"] > before["counter"]
    cluster.wait("its address", lambda: cluster.zv_json("vm", "show", VM)["addresses"])

    # Still in hand: it moves, and comes back.
    cluster.zv("vm", "migrate", VM, "--to", "host3")
    cluster.zv("vm", "migrate", VM, "--to", "host2")
    assert cluster.guest(VM)["boot_id"] == before["boot_id"]
    failed = [e for e in cluster.zv_json("event", "list", "--subject", VM) if e["kind"] == "vm.failed"]
    assert failed == []


def test_a_vm_that_dies_while_no_agent_watches_is_reported_once(cluster: Cluster, vm: str) -> None:
    cluster.zv("lab", "agent", "host2", "hold")
    try:
        assert cluster.kill_qemu(VM, "host2")
    finally:
        cluster.zv("lab", "agent", "host2", "start")
    cluster.assert_dead_once(VM)


def test_a_machine_that_was_replaced_stands_down(cluster: Cluster) -> None:
    """It comes back with its old data: its own joining is older than that of the host that has its name now."""
    file, told = cluster.layout.host("host3").agent_toml, "another machine joined the cluster as host3"
    before = file.read_text()
    (line,) = [line for line in before.splitlines() if line.startswith("joined_at = ")]

    def start_with(text: str) -> None:
        cluster.zv("lab", "agent", "host3", "hold")
        try:
            file.write_text(text)
        finally:
            cluster.zv("lab", "agent", "host3", "start")

    start_with(before.replace(line, 'joined_at = "2020-01-01T00:00:00.000Z"'))
    try:
        cluster.wait("its verdict", lambda: cluster.host("host3")["verdict"] == "failed")
        (event,) = [
            e for e in cluster.zv_json("event", "list", "--subject", "host3") if e["kind"] == "host.replaced"
        ]
        assert told in event["message"]
        assert told in cluster.agent_log("host3")
    finally:
        start_with(before)
        cluster.all_live()


@contextmanager
def _other_beats(cluster: Cluster, host: str) -> Iterator[Path]:
    """Another machine beats as `host`; its file."""
    file, is_over = cluster.layout.shared / ".zugvogel/hosts" / host, threading.Event()

    def beat() -> None:
        for counter in range(1, 600):
            write_block(file, seal(Beat(host=host, boot_id=OTHER, counter=counter).model_dump_json().encode()))
            if is_over.wait(0.5):
                return

    writer = threading.Thread(target=beat)
    writer.start()
    try:
        yield file
    finally:
        is_over.set()
        writer.join()


def test_a_copy_of_a_machine_that_lives_stands_down(cluster: Cluster) -> None:
    """It has the other one's configuration, keys and certificate; only the other one's beats tell."""
    told = "another machine writes beats as host3"
    cluster.zv("lab", "power", "host3", "off")
    try:
        with _other_beats(cluster, "host3") as file:
            cluster.zv("lab", "power", "host3", "on", check=False)  # it is never live
            cluster.wait("it stands down", lambda: told in cluster.agent_log("host3"))
            cluster.wait("its etcd ends", lambda: not cluster.runs("host3", "etcd"))
            assert OTHER.encode() in file.read_bytes()
            cluster.wait("only beats", lambda: cluster.host("host3")["verdict"] == "partitioned")
        told_at = [e for e in cluster.zv_json("event", "list", "--subject", "host3") if told in e["message"]]
        assert [e["kind"] for e in told_at] == ["host.replaced"]
    finally:
        cluster.kill_agent("host3")  # the next one finds that the other one is gone
        cluster.power_on_all()
        cluster.all_live()


def _without_ages(told: Any) -> Any:
    """What changes from second to second is left out."""
    moving = {
        *("heartbeat_age_s", "beat_ages_s", "load1", "memory_available_bytes", "why", "free_bytes"),
        *("write_age_s", "last_beat_s"),
    }
    if isinstance(told, dict):
        return {k: _without_ages(v) for k, v in told.items() if k not in moving}
    if isinstance(told, list):
        return [_without_ages(v) for v in told]
    return told


def test_every_host_answers_the_same(cluster: Cluster, vm: str) -> None:
    questions = (
        *(("host", "list"), ("vm", "list"), ("task", "list"), ("datastore", "list")),
        *(("settings", "list"), ("cluster", "show"), ("event", "list", "--subject", VM)),
    )
    hosts = {host: cluster.context_of(host) for host in cluster.hosts}
    for question in questions:

        def same(question: tuple[str, ...] = question) -> bool:
            told = {h: _without_ages(cluster.zv_json("--context", c, *question)) for h, c in hosts.items()}
            first = told["host1"]
            assert all(answer == first for answer in told.values()), told
            return True

        cluster.wait(f"the same answer to {question}", same, 10.0)
    for context in hosts.values():  # and every host takes orders for a vm that runs elsewhere
        cluster.zv("--context", context, "vm", "set", VM, "--description", f"by {context}")
        shown = cluster.zv_json("--context", context, "vm", "show", VM)
        assert shown["definition"]["description"] == f"by {context}"
        cluster.zv("--context", context, "vm", "log", VM)
    cluster.zv("--context", "at-host3", "vm", "migrate", VM, "--to", "host1")
    cluster.zv("--context", "at-host3", "vm", "kill", VM)


def _verdict(cluster: Cluster, host: str) -> str:
    told = {h["name"]: h["verdict"] for h in cluster.zv_json("host", "list")}
    return str(told[host])


def test_a_host_without_power_fails_and_its_vm_is_told_once(cluster: Cluster, vm: str) -> None:
    cluster.zv("lab", "power", "host2", "off")
    try:
        cluster.wait("host2 to have failed", lambda: _verdict(cluster, "host2") == "failed")
        shown = cluster.zv_json("vm", "show", VM)
        assert (shown["state"], shown["host"]) == ("unknown", "host2")
        cluster.refused("vm", "start", VM)
        cluster.refused("vm", "migrate", VM, "--to", "host1")
        cluster.zv("vm", "create", "newone", "--memory", "64M", "--no-network")
        cluster.remove("newone")
    finally:
        cluster.zv("lab", "power", "host2", "on")
    cluster.all_live()
    cluster.assert_dead_once(VM)
    assert "host2" in cluster.zv_json("vm", "show", VM)["why"]
    cluster.zv("vm", "start", VM, "--on", "host2")


def test_without_etcds_majority_status_answers_and_settings_are_refused(cluster: Cluster, vm: str) -> None:
    cluster.zv("vm", "migrate", VM, "--to", "host1")
    before, value = cluster.guest(VM), cluster.zv_json("settings", "get", "migration.timeout")["value"]
    for host in ("host2", "host3"):
        cluster.zv("lab", "agent", host, "hold")
    try:
        assert {h["name"] for h in cluster.zv_json("host", "list")} == set(cluster.hosts)
        shown = cluster.zv_json("vm", "show", VM)
        assert (shown["state"], shown["host"]) == ("running", "host1")
        assert "no majority" in cluster.refused("settings", "set", "migration.timeout", "99")
        assert cluster.zv_json("settings", "get", "migration.timeout")["value"] == value
        said = cluster.refused("vm", "create", "half", "--memory", "64M", "--no-network")
        assert "no majority" in said
        assert "not made" in said
        assert cluster.guest(VM)["boot_id"] == before["boot_id"]
        cluster.zv("vm", "reset", VM)
    finally:
        for host in ("host2", "host3"):
            cluster.zv("lab", "agent", host, "start")
    cluster.all_live()
    cluster.wait("settings to be taken", lambda: cluster.zv("settings", "set", "migration.timeout", str(value)))
    assert cluster.assert_runs_once(VM) == "host1"
    cluster.zv("vm", "create", "half", "--memory", "64M", "--no-network")  # nothing of it is in the way
    cluster.remove("half")
