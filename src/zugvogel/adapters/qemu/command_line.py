"""QEMU's argument list for a vm: a pure function of what is wanted and of what this host has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zugvogel.core.cpu import qemu_cpu_argument
from zugvogel.domain.ha import Monitoring
from zugvogel.domain.vm import Disk, VmDefinition
from zugvogel.ports.hypervisor import MachineSpec

SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
PREALLOC_THREADS = 16
RAM = "pc.ram"
"""The name QEMU itself gives a PC's RAM; streams and files carry it."""
SPARE_PORTS = 2
"""PCIe root ports kept free for devices added while the vm runs."""
DISPLAY_SLOT = 0x02
DISK_SLOTS = range(0x03, 0x10)
NIC_SLOTS = range(0x10, 0x18)
SPARE_SLOT = 0x18
SERIAL_SLOT, RNG_SLOT, SEED_SLOT, WATCHDOG_SLOT, USB_SLOT = 0x1A, 0x1B, 0x1C, 0x1D, 0x1E
"""PCI addresses never depend on what else the vm has: adding a disk must not rename a guest's NIC."""


@dataclass(frozen=True, slots=True)
class HostSide:
    """`tap_fds`: one a NIC, in order. `tls_directory` None: no credentials."""

    binary: str
    accelerator: str
    run_dir: Path
    serial_log: Path
    tap_fds: tuple[int, ...]
    tls_directory: Path | None
    cores: int = 1


def arguments(spec: MachineSpec, host: HostSide) -> list[str]:
    """The whole argument list, binary first. The vCPUs never start by themselves (`-S`)."""
    return [
        host.binary,
        *_base(spec, host),
        *_memory(spec, host.cores),
        *_monitor(host.run_dir),
        *_serial(host),
        *_display(spec.definition, host.run_dir),
        *_boot(spec.definition, spec.folder),
        *_ports(spec.definition),
        *_disks(spec.definition, spec.folder),
        *_nics(spec, host.tap_fds),
        *_monitoring(spec.definition),
        *_tls(host.tls_directory),
        *(("-incoming", "defer") if spec.incoming else ()),
    ]


def _base(spec: MachineSpec, host: HostSide) -> list[str]:
    vm = spec.definition
    backend = f",memory-backend={RAM}" if spec.is_preallocated else ""
    return [
        *("-name", f"guest={vm.name},process=qemu:{vm.name},debug-threads=on"),
        *("-uuid", vm.uuid),
        "-nodefaults",
        "-no-user-config",
        *("-display", "none"),
        *("-machine", f"{vm.machine},accel={host.accelerator},usb=off,vmport=off{backend}"),
        *("-cpu", qemu_cpu_argument(vm.cpu_model, host.accelerator)),
        *("-smp", str(vm.cpus)),
        *("-msg", "timestamp=on"),
        *("-rtc", "base=utc,driftfix=slew"),
        "-S",
        *("-sandbox", SANDBOX),
    ]


def _memory(spec: MachineSpec, cores: int) -> list[str]:
    """Preallocated or not, the RAM block has the same name, so either loads what the other saved."""
    size = f"{spec.definition.memory_bytes >> 20}M"
    if not spec.is_preallocated:
        return ["-m", size]
    threads = min(PREALLOC_THREADS, cores)
    backend = f"memory-backend-ram,id={RAM},size={size},prealloc=on,prealloc-threads={threads}"
    return ["-m", size, "-object", backend]


def _monitor(run_dir: Path) -> list[str]:
    return [
        *("-chardev", f"socket,id=qmp0,path={run_dir}/qmp.sock,server=on,wait=off"),
        *("-mon", "chardev=qmp0,mode=control"),
    ]


def _serial(host: HostSide) -> list[str]:
    return [
        "-chardev",
        f"socket,id=serial0,path={host.run_dir}/serial.sock,server=on,wait=off,logfile={host.serial_log},logappend=on",
        *("-device", "isa-serial,chardev=serial0"),
        *("-device", f"virtio-serial-pci,id=vser0,addr={SERIAL_SLOT:#x}"),
        *("-chardev", f"socket,id=agent0,path={host.run_dir}/guest-agent.sock,server=on,wait=off"),
        *("-device", "virtserialport,bus=vser0.0,chardev=agent0,name=org.qemu.guest_agent.0"),
        *("-object", "rng-random,id=rng0,filename=/dev/urandom"),
        *("-device", f"virtio-rng-pci,rng=rng0,addr={RNG_SLOT:#x}"),
    ]


def _display(vm: VmDefinition, run_dir: Path) -> list[str]:
    """The standard VGA card: firmware, text mode and every guest system know it without a driver of ours, and its
    state is the same in all versions of QEMU. A tablet, since a browser tells where the pointer is and not how far
    it went; behind xHCI, which polls nothing while it rests. Keys come by the PC's own keyboard. VNC asks for no
    password: its directory lets in nobody but QEMU's user and root. A viewer that asks to be alone, as some do
    unasked, neither shuts the others out nor is turned away (`share`)."""
    if vm.display == "none":
        return []
    return [
        *("-device", f"VGA,id=video0,vgamem_mb=16,addr={DISPLAY_SLOT:#x}"),
        *("-device", f"qemu-xhci,id=usb0,addr={USB_SLOT:#x}"),
        *("-device", "usb-tablet,id=pointer0,bus=usb0.0,port=1"),
        *("-vnc", f"unix:{run_dir}/vnc.sock,share=ignore"),
    ]


def _boot(vm: VmDefinition, folder: Path) -> list[str]:
    if vm.boot is None:
        return []
    found = ["-kernel", str(folder / vm.boot.kernel)]
    if vm.boot.initrd:
        found += ["-initrd", str(folder / vm.boot.initrd)]
    if vm.boot.append:
        found += ["-append", vm.boot.append]
    return found


def _ports(vm: VmDefinition) -> list[str]:
    count = SPARE_PORTS if "q35" in vm.machine else 0
    return [
        arg
        for i in range(count)
        for arg in (
            "-device",
            f"pcie-root-port,id=spare{i},chassis={i + 1},slot={i + 1},addr={SPARE_SLOT + i:#x}",
        )
    ]


def _address(number: int, slots: range) -> str:
    """The n-th device of a kind: one slot each, then one function each."""
    slot, function = slots[number % len(slots)], number // len(slots)
    return f"addr={slot:#x}.{function}" + (",multifunction=on" if function == 0 else "")


def _disks(vm: VmDefinition, folder: Path) -> list[str]:
    found: list[str] = []
    for number, disk in enumerate(vm.disks):
        found += _disk(str(number), disk, folder, number + 1, _address(number, DISK_SLOTS))
    if vm.cloud_init:
        seed = Disk.model_construct(file=vm.cloud_init, format="raw", size_bytes=1, is_readonly=True, cache="none")
        found += _disk("seed", seed, folder, len(vm.disks) + 1, f"addr={SEED_SLOT:#x}")
    return found


def _disk(name: str, disk: Disk, folder: Path, boot_index: int, address: str) -> list[str]:
    """file -> raw filter node ``r<i>`` (its `file` can be replaced while the vm runs) -> ``disk<i>``."""
    direct = disk.cache == "none"
    readonly = "on" if disk.is_readonly else "off"
    cache = f"cache.direct={'on' if direct else 'off'},cache.no-flush=off"
    file = str(folder / disk.file).replace(",", ",,")
    return [
        "-blockdev",
        f"driver=file,node-name=f{name},filename={file},locking=on,"
        f"{cache},aio={'native' if direct else 'threads'},discard=unmap,read-only={readonly}",
        "-blockdev",
        f"driver=raw,node-name=r{name},file=f{name},{cache},discard=unmap,read-only={readonly}",
        "-blockdev",
        f"driver={disk.format},node-name=disk{name},file=r{name},{cache},discard=unmap,read-only={readonly}",
        "-device",
        f"virtio-blk-pci,id=vd{name},drive=disk{name},serial=zv-disk{name},{address},"
        f"write-cache={'off' if disk.cache == 'writethrough' else 'on'},"
        f"werror=stop,rerror=stop,bootindex={boot_index}",
    ]


def _nics(spec: MachineSpec, tap_fds: tuple[int, ...]) -> list[str]:
    found: list[str] = []
    for number, (nic, fd) in enumerate(zip(spec.nics, tap_fds, strict=True)):
        found += ["-netdev", f"tap,id=net{number},fd={fd},vhost=off"]
        mtu = f",host_mtu={nic.mtu}" if nic.mtu else ""
        found += [
            "-device",
            f"virtio-net-pci,id=nic{number},netdev=net{number},mac={nic.mac},"
            f"{_address(number, NIC_SLOTS)},romfile={mtu}",
        ]
    return found


def _monitoring(vm: VmDefinition) -> list[str]:
    """What tells that the guest cannot go on. QEMU stops it there, and the agent decides. The panic device is the
    one on the ISA bus: it has no state that could be lost or not fit in a move. What it offers is named because
    its default grew with QEMU's versions. A q35 has a watchdog of its own, which older machine types leave
    unplugged."""
    level = vm.ha.monitoring
    if level is Monitoring.OFF:
        return []
    found = ["-device", "pvpanic,events=3", "-action", "panic=pause"]
    if level is Monitoring.GUEST:
        found += ["-device", f"i6300esb,id=watchdog0,addr={WATCHDOG_SLOT:#x}", "-action", "watchdog=pause"]
        if "q35" in vm.machine:
            found += ["-global", "ICH9-LPC.noreboot=off"]
    return found


def _tls(directory: Path | None) -> list[str]:
    if directory is None:
        return []
    return [
        *("-object", f"tls-creds-x509,id=tls-server0,dir={directory},endpoint=server,verify-peer=yes"),
        *("-object", f"tls-creds-x509,id=tls-client0,dir={directory},endpoint=client,verify-peer=yes"),
    ]
