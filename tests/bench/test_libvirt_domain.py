"""libvirt's XML, configuration and job figures."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from bench.guests import definition
from bench.libvirt_domain import configuration, domain_xml, downtime_ms, etc_files, sent_bytes
from zugvogel.adapters.qemu.hypervisor import DEFAULT_MACHINE


def xml(accelerator: str = "tcg") -> ElementTree.Element:
    vm = definition("bench", "52:54:00:00:00:01", "198.51.100.202", "x86-64-v2")
    text = domain_xml(
        vm, accelerator=accelerator, emulator=Path("/q"), images=Path("/a&b"), log=Path("/l"), bridge="br0"
    )
    return ElementTree.fromstring(text)


def test_the_domain_has_the_guests_memory_machine_and_mac() -> None:
    domain = xml()
    assert domain.get("type") == "qemu"
    assert domain.findtext("memory") == str(512 << 20)
    machine = domain.find("os/type")
    assert machine is not None
    assert machine.get("machine") == DEFAULT_MACHINE
    mac = domain.find("devices/interface/mac")
    assert mac is not None
    assert mac.get("address") == "52:54:00:00:00:01"


def test_paths_are_escaped_and_kvm_is_told() -> None:
    assert xml().findtext("os/kernel") == "/a&b/kernel"
    assert xml("kvm").get("type") == "kvm"


def test_cpu_features_are_in_libvirts_spelling() -> None:
    names = {feature.get("name") for feature in xml().findall("cpu/feature")}
    assert {"ssse3", "sse4.1", "sse4.2", "popcnt", "lahf_lm"} == names


def test_the_daemon_listens_on_its_hosts_address_alone() -> None:
    files = configuration("00000000-0000-0000-0000-000000000001", "192.0.2.11")
    assert 'listen_addr = "192.0.2.11"' in files["libvirtd.conf"]
    assert "cgroup_controllers = []" in files["qemu.conf"]


def test_account_and_names_are_added_once() -> None:
    first = etc_files(
        {"passwd": "root:x:0:0::/:/bin/sh", "group": "root:x:0:", "hosts": ""}, {"host1": "192.0.2.11"}
    )
    assert "\nlibvirt-qemu:" in first["passwd"]
    assert "192.0.2.11 host1" in first["hosts"]
    again = etc_files({"passwd": first["passwd"]}, {})
    assert again["passwd"].count("libvirt-qemu:") == 1


def test_job_figures_are_read_from_virshs_words() -> None:
    told = "Job type:         Completed   \nMemory processed: 96.500 MiB\nTotal downtime:   43           ms\n"
    assert downtime_ms(told) == 43.0
    assert sent_bytes(told) == round(96.5 * (1 << 20))
    assert downtime_ms("Job type:         None\n") is None
    assert sent_bytes("Job type:         None\n") is None
