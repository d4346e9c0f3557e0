"""zugvogel.adapters.network, each scenario in its own network namespace"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.adapters.network import scenarios
from zugvogel.adapters.network import packets
from zugvogel.adapters.network.taps import tap_name

SET_UP = (
    "link add br0 type bridge",
    "link add up0 address 52:54:00:0a:00:01 type veth peer name sw0",  # as low as a real card's
    "link set up0 master br0 up",
    "link set sw0 up",
    "link set br0 up",
    "addr add 192.0.2.10/24 dev br0",
)


def test_a_tap_name_fits_and_differs_by_vm_and_number() -> None:
    names = {tap_name(vm, number) for vm in ("a", "b" * 63) for number in (0, 15)}
    assert len(names) == 4
    assert all(len(name) <= 15 for name in names)


def test_a_probe_claims_no_address() -> None:
    frame = packets.arp_probe(packets.mac_bytes(scenarios.MAC), "192.0.2.1")
    assert packets.parse_arp(frame) == (scenarios.MAC, "0.0.0.0")
    assert packets.parse_arp(frame[:20]) is None


@pytest.fixture
def namespace() -> Iterator[str]:
    name = f"zvt-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        for command in SET_UP:
            subprocess.run(["ip", "-n", name, *command.split()], check=True)
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


@pytest.mark.lab
@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "scenario",
    [
        "taps_vanish_with_their_descriptor",
        "the_bridge_keeps_its_mac",
        "a_tap_is_refused_without_bridge_or_vlans",
        "a_tap_joins_its_vlan",
        "bridges_and_links_are_found",
        "rarp_is_seen_only_from_outside",
        "addresses_of_guests_are_learned",
        "nothing_is_learned_of_what_goes_to_guests",
        "a_probe_is_answered_by_a_neighbour",
    ],
)
def test_in_a_namespace(namespace: str, scenario: str) -> None:
    inside = [sys.executable, "-m", scenarios.__name__, scenario]
    found = subprocess.run(["ip", "netns", "exec", namespace, *inside], capture_output=True, text=True, timeout=40)
    if found.returncode == scenarios.CANNOT_BE_TRIED:
        pytest.skip("this kernel's bridges cannot filter VLANs")
    assert found.returncode == 0, found.stderr
