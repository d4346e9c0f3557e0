"""zugvogel.adapters.qemu.command_line"""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

from zugvogel.adapters.qemu.command_line import SANDBOX, HostSide, arguments
from zugvogel.domain.ha import Monitoring, VmPolicy
from zugvogel.domain.vm import Boot, Disk, Nic, VmDefinition
from zugvogel.ports.hypervisor import MachineSpec, NicSpec

MAC = "52:54:00:00:00:01"
VM = VmDefinition(
    name="web1",
    uuid="8f7f9d3c-6a3c-4b0e-9a54-3c8f6e3a5d11",
    memory_bytes=512 << 20,
    cpus=2,
    machine="pc-q35-7.2",
    cpu_model="x86-64-v2",
    disks=(Disk(file="disk0.qcow2", format="qcow2", size_bytes=1 << 30),),
    nics=(Nic(network="lan", mac=MAC),),
)


def line(
    *, incoming: bool = False, is_preallocated: bool = False, tls: Path | None = None, **changes: Any
) -> list[str]:
    vm = VM.model_copy(update=changes)
    nic = NicSpec(MAC, "br0", mtu=1400)
    spec = MachineSpec(vm, Path("/srv/shared/web1"), (nic,), incoming, is_preallocated)
    host = HostSide("qemu", "tcg", Path("/run/zv/web1"), Path("/log/web1/serial.log"), (7,), tls, cores=6)
    return arguments(spec, host)


def values(found: list[str], option: str) -> list[str]:
    return [value for name, value in pairwise(found) if name == option]


def test_the_guest_never_starts_by_itself_and_qemu_is_sandboxed() -> None:
    found = line()
    assert {"-S", "-nodefaults", "-no-user-config"} <= set(found)
    assert values(found, "-sandbox") == [SANDBOX]
    assert values(found, "-machine")[0].startswith("pc-q35-7.2,accel=tcg")


def test_memory_is_taken_by_several_threads_where_it_is_asked_for() -> None:
    assert "memory-backend" not in " ".join(line())
    found = line(is_preallocated=True)
    (backend,) = (o for o in values(found, "-object") if o.startswith("memory-backend-ram"))
    assert backend.endswith("prealloc=on,prealloc-threads=6")
    assert f"size={values(found, '-m')[0]}" in backend
    assert values(found, "-machine")[0].endswith(",memory-backend=pc.ram")


def test_a_raw_filter_lies_between_the_format_and_the_file() -> None:
    file, raw_filter, top = values(line(), "-blockdev")
    assert file.startswith("driver=file,node-name=f0,filename=/srv/shared/web1/disk0.qcow2,locking=on")
    assert "cache.direct=on" in file
    assert "aio=native" in file
    assert raw_filter.startswith("driver=raw,node-name=r0,file=f0,")
    assert top.startswith("driver=qcow2,node-name=disk0,file=r0,")


def test_a_disk_error_stops_the_vm_instead_of_reaching_the_guest() -> None:
    disk = next(d for d in values(line(), "-device") if d.startswith("virtio-blk"))
    assert "werror=stop,rerror=stop" in disk


def test_a_cached_disk_does_not_use_native_aio() -> None:
    cached = VM.disks[0].model_copy(update={"cache": "writethrough"})
    found = line(disks=(cached,))
    assert "cache.direct=off" in values(found, "-blockdev")[0]
    assert "aio=threads" in values(found, "-blockdev")[0]
    assert any("write-cache=off" in d for d in values(found, "-device"))


def test_a_comma_in_a_kernel_command_line_stays_one_argument() -> None:
    found = line(boot=Boot(kernel="kernel", initrd="initrd", append="console=ttyS0,115200 quiet"))
    assert values(found, "-append") == ["console=ttyS0,115200 quiet"]
    assert values(found, "-kernel") == ["/srv/shared/web1/kernel"]


def test_the_nic_keeps_its_mac_and_gets_the_inherited_tap() -> None:
    found = line()
    assert values(found, "-netdev")[0].startswith("tap,id=net0,fd=7")
    nic = next(d for d in values(found, "-device") if d.startswith("virtio-net"))
    assert f"mac={MAC}" in nic
    assert "host_mtu=1400" in nic


def test_a_vm_without_a_display_keeps_the_hardware_it_had() -> None:
    assert not {"video", "VGA", "usb", "vnc"} & set(re.findall(r"\w+", " ".join(line()).replace("usb=off", "")))
    shown = line(display="vga")
    added = [word for word in shown if word not in line()]
    assert added == [
        "VGA,id=video0,vgamem_mb=16,addr=0x2",
        "qemu-xhci,id=usb0,addr=0x1e",
        "usb-tablet,id=pointer0,bus=usb0.0,port=1",
        "-vnc",
        "unix:/run/zv/web1/vnc.sock,share=ignore",
    ]


def test_an_incoming_vm_has_the_devices_of_the_outgoing_one() -> None:
    assert line(incoming=True) == [*line(), "-incoming", "defer"]
    assert line(incoming=True, display="vga") == [*line(display="vga"), "-incoming", "defer"]


def test_both_ends_of_tls_are_there_so_that_a_running_vm_can_be_moved() -> None:
    ends = [o for o in values(line(tls=Path("/pki")), "-object") if o.startswith("tls-creds-x509")]
    assert [o.split(",")[1] for o in ends] == ["id=tls-server0", "id=tls-client0"]
    assert all("dir=/pki" in o and "verify-peer=yes" in o for o in ends)
    assert "-blockdev" not in line(disks=())


def test_a_disk_more_moves_no_other_device() -> None:
    def addresses(disks: int) -> dict[str, str]:
        watched = VmPolicy(monitoring=Monitoring.GUEST)
        found = line(disks=VM.disks * disks, cloud_init="seed.iso", ha=watched, display="vga")
        devices = [dict(p.split("=", 1) for p in d.split(",")[1:]) for d in values(found, "-device")]
        assert {"0x1d", "0x2"} <= {d.get("addr") for d in devices}  # the watchdog, the display
        return {d.get("id", d.get("rng", "")): d["addr"] for d in devices if "addr" in d}

    few, many = addresses(1), addresses(15)
    assert few.items() <= many.items()
    assert len(set(many.values())) == len(many)


def watched(level: Monitoring, machine: str = "pc-q35-7.2") -> tuple[list[str], list[str], list[str]]:
    """(devices that watch, actions, globals)"""
    found = line(ha=VmPolicy(monitoring=level), machine=machine)
    devices = [d for d in values(found, "-device") if d.startswith(("pvpanic", "i6300esb"))]
    return devices, values(found, "-action"), values(found, "-global")


def test_what_is_watched_decides_the_devices_and_qemu_leaves_the_decision_to_the_agent() -> None:
    assert watched(Monitoring.OFF) == ([], [], [])
    panic = "pvpanic,events=3"
    assert watched(Monitoring.CRASH) == ([panic], ["panic=pause"], [])
    devices, actions, others = watched(Monitoring.GUEST)
    assert devices == [panic, "i6300esb,id=watchdog0,addr=0x1d"]
    assert actions == ["panic=pause", "watchdog=pause"]
    assert others == ["ICH9-LPC.noreboot=off"]
    assert watched(Monitoring.GUEST, "pc-i440fx-7.2")[2] == []
