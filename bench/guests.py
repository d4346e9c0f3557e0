"""The lab guest as raw QMP and libvirt run it: the same definition that Zugvogel would make, without a disk."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

from bench.scenarios import IMAGE, MEMORY_MIB
from zugvogel.adapters.qemu.accel import probe_accelerator
from zugvogel.adapters.qemu.hypervisor import DEFAULT_MACHINE
from zugvogel.domain.vm import Boot, Nic, VmDefinition
from zugvogel.errors import ProcedureFailed
from zugvogel.lab.continuity import guest_get
from zugvogel.lab.guest import APPEND
from zugvogel.lab.layout import CLIENT, Layout
from zugvogel.lab.namespaces import in_netns

BOOT_S = 90.0


def image_folder(layout: Layout) -> Path:
    return layout.shared / ".zugvogel" / "images" / IMAGE


def definition(name: str, mac: str, address: str, cpu_model: str, memory_mib: int = MEMORY_MIB) -> VmDefinition:
    """`address` without prefix length, from the lab's guest network, outside what its DHCP gives."""
    return VmDefinition(
        name=name,
        uuid=str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{name}.invalid")),
        memory_bytes=memory_mib << 20,
        cpus=1,
        machine=DEFAULT_MACHINE,
        cpu_model=cpu_model,
        nics=(Nic(network="lan", mac=mac),),
        boot=Boot(kernel="kernel", initrd="initrd", append=f"{APPEND} zv.ip={address}/24"),
    )


def accelerator() -> str:
    return probe_accelerator()


def ask(layout: Layout, address: str, path: str, patience_s: float = 30.0) -> None:
    """A request to the guest, from the client, until it is answered. Raises ProcedureFailed."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            in_netns(layout.netns_path(CLIENT), lambda: guest_get(address, path, 10.0))
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise ProcedureFailed(f"the guest at {address} does not answer {path}: {error}") from error
        time.sleep(0.25)


def fill_bytes(layout: Layout, address: str) -> int:
    """What the guest keeps filled, as it says. Raises ProcedureFailed."""
    try:
        state = in_netns(layout.netns_path(CLIENT), lambda: guest_get(address, "/state", 30.0))
    except OSError as error:
        raise ProcedureFailed(f"the guest at {address} does not answer: {error}") from error
    return int(state["fill_bytes"])


def nonzero_bytes(pid: int, memory_bytes: int) -> int | None:
    """RAM of a QEMU process that is not zero, by pages of 4 KiB; None where it cannot be told."""
    region = _ram_region(pid, memory_bytes)
    if region is None:
        return None
    zero, step, found = bytes(4096), 1 << 20, 0
    try:
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            memory.seek(region)
            for _ in range(memory_bytes // step):
                block = memory.read(step)
                if block.count(0) != len(block):
                    found += sum(4096 for at in range(0, len(block), 4096) if block[at : at + 4096] != zero)
    except OSError:
        return None
    return found


def _ram_region(pid: int, memory_bytes: int) -> int | None:
    """Where a mapping as large as the guest's RAM (and no other) begins."""
    try:
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    except OSError:
        return None
    spans = [tuple(int(x, 16) for x in line.split()[0].split("-")) for line in lines if " rw-p " in line]
    fit = [begin for begin, end in spans if end - begin == memory_bytes]
    return fit[0] if len(fit) == 1 else None
