"""The lab without a cluster: two hosts, real namespaces, a stub in place of the agent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from zugvogel.errors import InvalidInput, NotFound, ProcedureFailed, Refused
from zugvogel.lab import host, processes, status, storage, switch
from zugvogel.lab.down import lab_down, leftovers
from zugvogel.lab.layout import AGENT_VARIABLE, CLIENT, ROOT_VARIABLE, SWITCH, LabState, Layout
from zugvogel.lab.namespaces import netns_names, run, tc
from zugvogel.lab.ping import ping_from_client
from zugvogel.lab.preconditions import exclusively
from zugvogel.lab.up import Wish, lab_up

pytestmark = [
    pytest.mark.lab,
    pytest.mark.timeout(120),
    pytest.mark.skipif(os.geteuid() != 0, reason="the lab needs root"),
]
WISH = Wish(hosts=2, link_mbit=800, is_cluster=False)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("lab")
        patch.setenv(ROOT_VARIABLE, str(folder / "root"))
        patch.setenv("ZUGVOGEL_CONTEXTS", str(folder / "contexts.toml"))
        patch.setenv(AGENT_VARIABLE, "sleep 100000")
        yield patch


@pytest.fixture(scope="module")
def layout(environment: pytest.MonkeyPatch) -> Iterator[Layout]:
    layout = Layout.from_environment()
    try:
        lab_up(layout, WISH, lambda _: None)
        wait_for_hosts(layout, "192.0.2.11", "192.0.2.12")
        yield layout
    finally:
        lab_down(layout)


@pytest.fixture
def state(layout: Layout) -> Iterator[LabState]:
    """The lab's state; whatever the test broke is whole again afterwards."""
    state = layout.load()
    yield state
    switch.heal(layout, state)
    for lab_host in state.hosts:
        host.power_on(layout, lab_host)
        if host.is_hung(layout, lab_host.name):
            host.resume(layout, lab_host.name)
        storage.heal(layout, lab_host.name)
    layout.save(state)
    wait_for_hosts(layout, *(h.address for h in state.hosts))


def answers(layout: Layout, name: str, address: str) -> bool:
    """One echo from a host, within a second."""
    try:
        host.execute(layout, name, ["ping", "-c1", "-W1", address])
    except ProcedureFailed:
        return False
    return True


def wait_for_answer(layout: Layout, name: str, address: str) -> None:
    """The kernel takes up to a second to notice that a carrier is back."""
    processes.wait_until(
        lambda: answers(layout, name, address), seconds=20, else_say=f"{address} does not answer {name}"
    )


def wait_for_hosts(layout: Layout, *addresses: str) -> None:
    for address in addresses:
        processes.wait_until(
            partial(client_hears, layout, address), seconds=20, else_say=f"{address} does not answer the client"
        )


def client_hears(layout: Layout, address: str) -> bool:
    return ping_from_client(layout, address, interval_ms=50, seconds=0.1).received > 0


def test_hosts_reach_each_other_and_the_gateway(layout: Layout, state: LabState) -> None:
    assert answers(layout, "host1", "192.0.2.12")
    assert answers(layout, "host2", "192.0.2.11")
    assert answers(layout, "host1", "192.0.2.1")
    assert host.execute(layout, "host2", ["hostname"]).strip() == "host2"


def test_links_are_shaped_both_ways_and_again_after_power_on(layout: Layout, state: LabState) -> None:
    host.power_off(layout, state.host("host1"))
    host.power_on(layout, state.host("host1"))
    assert "tbf" in tc(layout.netns(SWITCH), "qdisc", "show", "dev", "p-host1")
    assert "rate 800Mbit" in tc(layout.netns("host1"), "qdisc", "show", "dev", "up0")


def test_each_host_has_its_own_files_and_all_share_the_datastore(layout: Layout, state: LabState) -> None:
    host.execute(layout, "host1", ["sh", "-c", "echo one > /var/lib/zugvogel/mine; echo all > /srv/shared/ours"])
    assert host.execute(layout, "host2", ["cat", "/srv/shared/ours"]) == "all\n"
    with pytest.raises(ProcedureFailed):
        host.execute(layout, "host2", ["cat", "/var/lib/zugvogel/mine"])
    assert not Path("/var/lib/zugvogel/mine").exists()


def test_cut_and_healed_network(layout: Layout, state: LabState) -> None:
    switch.set_cut(layout, state.host("host2"), is_cut=True)
    assert not answers(layout, "host1", "192.0.2.12")
    assert host.execute(layout, "host2", ["cat", "/sys/class/net/up0/operstate"]).strip() != "up"
    switch.set_cut(layout, state.host("host2"), is_cut=False)
    wait_for_answer(layout, "host1", "192.0.2.12")


def test_partition_leaves_gateway_and_client_with_the_first_group(layout: Layout, state: LabState) -> None:
    switch.partition(layout, state, [["host1"], ["host2"]])
    assert not answers(layout, "host1", "192.0.2.12")
    assert client_hears(layout, "192.0.2.11")
    assert not client_hears(layout, "192.0.2.12")
    switch.heal(layout, state)
    wait_for_hosts(layout, "192.0.2.12")


def test_partition_refuses_unknown_hosts_and_hosts_named_twice(layout: Layout, state: LabState) -> None:
    with pytest.raises(InvalidInput, match="two groups"):
        switch.partition(layout, state, [["host1"], ["host1"]])
    with pytest.raises(NotFound, match="host9"):
        switch.partition(layout, state, [["host1"], ["host9"]])


def test_power_off_ends_every_process_and_silences_the_host(layout: Layout, state: LabState) -> None:
    host.execute(layout, "host2", ["sh", "-c", "setsid sleep 100000 >/dev/null 2>&1 &"])
    before = host.members(layout, "host2")
    assert len(before) >= 4  # init, bindfs, agent, sleeper
    host.power_off(layout, state.host("host2"))
    assert all(processes.state(pid) in ("Z", "X", "") for pid in before)
    assert not client_hears(layout, "192.0.2.12")
    assert status.host_status(layout, state.host("host2"))["power"] == "off"
    with pytest.raises(Refused, match="powered off"):
        host.command(layout, "host2", ["true"])
    host.power_on(layout, state.host("host2"))
    wait_for_hosts(layout, "192.0.2.12")


def test_power_off_ends_a_host_whose_storage_hangs(layout: Layout, state: LabState) -> None:
    storage.hang(layout, "host2")
    with subprocess.Popen(host.command(layout, "host2", ["ls", "/srv/shared"])) as stuck:
        host.power_off(layout, state.host("host2"))
        stuck.wait()
    assert stuck.returncode != 0


def test_a_hang_stops_all_and_a_resume_leaves_frozen_processes_frozen(layout: Layout, state: LabState) -> None:
    frozen = host.agent_pid(layout, "host1")
    assert frozen is not None
    os.kill(frozen, signal.SIGSTOP)
    processes.wait_until(lambda: processes.state(frozen) == "T", seconds=5, else_say="does not stop")
    assert host.hang(layout, "host1") >= 2
    assert {processes.state(pid) for pid in host.members(layout, "host1")} == {"T"}
    assert status.host_status(layout, state.host("host1"))["power"] == "hung"
    host.resume(layout, "host1")
    assert processes.state(frozen) == "T"
    os.kill(frozen, signal.SIGCONT)
    assert not host.is_hung(layout, "host1")
    assert host.execute(layout, "host1", ["echo", "back"]) == "back\n"


def test_cut_storage_fails_and_heals(layout: Layout, state: LabState) -> None:
    storage.cut(layout, "host1")
    with pytest.raises(ProcedureFailed, match="Transport endpoint is not connected"):
        host.execute(layout, "host1", ["ls", "/srv/shared"])
    assert storage.state(layout, "host1") == "cut"
    host.execute(layout, "host2", ["ls", "/srv/shared"])
    storage.heal(layout, "host1")
    host.execute(layout, "host1", ["touch", "/srv/shared/healed"])
    assert storage.state(layout, "host1") == "ok"


def test_hung_storage_waits_and_goes_on(layout: Layout, state: LabState) -> None:
    storage.hang(layout, "host1")
    with subprocess.Popen(host.command(layout, "host1", ["touch", "/srv/shared/late"])) as stuck:
        with pytest.raises(subprocess.TimeoutExpired):
            stuck.wait(timeout=0.5)
        assert storage.state(layout, "host1") == "hung"
        storage.heal(layout, "host1")
        assert stuck.wait() == 0
    assert (layout.shared / "late").exists()


def test_a_killed_agent_comes_back_unless_held(layout: Layout, state: LabState) -> None:
    first = host.agent_pid(layout, "host1")
    host.kill_agent(layout, "host1")
    processes.wait_until(
        lambda: host.agent_pid(layout, "host1") not in (None, first), seconds=10, else_say="no agent again"
    )
    host.hold_agent(layout, "host1")
    processes.wait_until(lambda: host.agent_pid(layout, "host1") is None, seconds=10, else_say="agent runs on")
    assert status.host_status(layout, state.host("host1"))["agent"] == "held"
    host.start_agent(layout, "host1")
    assert status.host_status(layout, state.host("host1"))["agent"] == "running"


def test_ping_counts_what_is_lost(layout: Layout, state: LabState) -> None:
    whole = ping_from_client(layout, "192.0.2.11", interval_ms=10, seconds=0.3)
    assert (whole.sent, whole.lost) == (30, 0)
    lost = ping_from_client(layout, "192.0.2.99", interval_ms=10, seconds=0.3)
    assert (lost.sent, lost.lost) == (30, 30)
    assert lost.max_gap_ms >= 290


def test_dhcp_listens_on_the_switch_alone(layout: Layout, state: LabState) -> None:
    sockets = run(["ip", "netns", "exec", layout.netns(SWITCH), "cat", "/proc/net/udp"])
    assert ":0043 " in sockets  # port 67
    assert layout.netns(CLIENT) in netns_names(layout.prefix)


def test_a_second_lab_up_and_a_second_command_are_refused(layout: Layout, state: LabState) -> None:
    with pytest.raises(Refused, match="a lab is up"):
        lab_up(layout, WISH, lambda _: None)
    with exclusively(layout), pytest.raises(Refused, match="another lab command"):
        lab_down(layout)


@pytest.fixture
def other_layout(environment: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Layout]:
    """A lab of its own, beside the module's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ROOT_VARIABLE, str(tmp_path / "root"))
        layout = Layout.from_environment()
        yield layout
        lab_down(layout)


def test_down_leaves_nothing_and_spares_other_labs(layout: Layout, state: LabState, other_layout: Layout) -> None:
    lab_up(other_layout, WISH, lambda _: None)
    assert leftovers(other_layout)
    assert lab_down(other_layout)
    assert leftovers(other_layout) == []
    assert not other_layout.root.exists()
    assert not lab_down(other_layout)
    assert client_hears(layout, "192.0.2.11")


@pytest.mark.parametrize("moment", ["switch and client", "power on host1", "power on host2"])
def test_down_after_lab_up_was_killed(other_layout: Layout, moment: str) -> None:
    code = (
        "from zugvogel.lab.layout import Layout; from zugvogel.lab.up import Wish, lab_up\n"
        "lab_up(Layout.from_environment(), Wish(2, 800, is_cluster=False), lambda t: print(t, flush=True))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as up:
        assert up.stdout is not None
        for line in up.stdout:
            if line.startswith(moment):
                time.sleep(0.05)  # somewhere within that step: any point must do
                up.kill()
                break
    assert leftovers(other_layout)
    assert lab_down(other_layout)
    assert leftovers(other_layout) == []
