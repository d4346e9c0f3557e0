"""libvirt's words for the lab guest: domain XML and the daemons' configuration. Pure."""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from zugvogel.core.cpu import MODELS
from zugvogel.domain.vm import VmDefinition

_FEATURE_NAMES = {"sse4_1": "sse4.1", "sse4_2": "sse4.2"}
_IN_QEMU64 = frozenset(("lm", "cmov", "cx8", "fpu", "fxsr", "mmx", "syscall", "sse", "sse2", "pni", "cx16"))

DOMAIN = """<domain type={kind}>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <memory unit='b'>{memory}</memory>
  <vcpu>{cpus}</vcpu>
  <os>
    <type arch='x86_64' machine={machine}>hvm</type>
    <kernel>{kernel}</kernel>
    <initrd>{initrd}</initrd>
    <cmdline>{append}</cmdline>
  </os>
  <features><acpi/><apic/><vmport state='off'/></features>
  <cpu mode='custom' match='exact' check='none'>
    <model fallback='forbid'>qemu64</model>
{features}
  </cpu>
  <devices>
    <emulator>{emulator}</emulator>
    <controller type='usb' model='none'/>
    <interface type='bridge'>
      <mac address={mac}/>
      <source bridge={bridge}/>
      <model type='virtio'/>
      <driver name='qemu'/>
      <rom enabled='no'/>
    </interface>
    <serial type='file'><source path={log}/></serial>
    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
    <memballoon model='none'/>
  </devices>
</domain>
"""


def domain_xml(vm: VmDefinition, *, accelerator: str, emulator: Path, images: Path, log: Path, bridge: str) -> str:
    """The same devices as Zugvogel's guest as far as libvirt's XML can say so. Raises ValueError for a vm without
    boot files or without exactly one NIC."""
    if vm.boot is None or len(vm.nics) != 1:
        raise ValueError("the bench's guest boots from files and has one NIC")
    return DOMAIN.format(
        kind=quoteattr("kvm" if accelerator == "kvm" else "qemu"),
        name=escape(vm.name),
        uuid=vm.uuid,
        memory=vm.memory_bytes,
        cpus=vm.cpus,
        machine=quoteattr(vm.machine),
        kernel=escape(str(images / vm.boot.kernel)),
        initrd=escape(str(images / vm.boot.initrd)),
        append=escape(vm.boot.append),
        features="\n".join(f"    <feature policy='require' name='{f}'/>" for f in _features(vm.cpu_model)),
        emulator=escape(str(emulator)),
        mac=quoteattr(vm.nics[0].mac),
        bridge=quoteattr(bridge),
        log=quoteattr(str(log)),
    )


def _features(model: str) -> list[str]:
    return [_FEATURE_NAMES.get(f, f) for f in MODELS.get(model, ()) if f not in _IN_QEMU64]


def configuration(host_uuid: str, address: str) -> dict[str, str]:
    """Contents of the files in a daemon's /etc/libvirt. TCP without authentication: only inside the namespaces."""
    daemon = {
        "listen_tls": "0",
        "listen_tcp": "1",
        "listen_addr": f'"{address}"',
        "auth_tcp": '"none"',
        "auth_unix_rw": '"none"',
        "host_uuid": f'"{host_uuid}"',
    }
    qemu = {
        "user": '"root"',
        "group": '"root"',
        "dynamic_ownership": "0",
        "remember_owner": "0",
        "security_driver": '"none"',
        "namespaces": "[]",
        "cgroup_controllers": "[]",
        "stdio_handler": '"file"',
    }
    return {"libvirtd.conf": _lines(daemon), "qemu.conf": _lines(qemu)}


def etc_files(present: dict[str, str], hosts: dict[str, str]) -> dict[str, str]:
    """Files of /etc to lay over `present` (passwd, group, hosts): libvirt's own user, and `hosts` (name ->
    address) found without a name server."""
    user, number = "libvirt-qemu", 64_700
    added = {
        "passwd": f"{user}:x:{number}:{number}::/nonexistent:/usr/sbin/nologin\n",
        "group": f"{user}:x:{number}:\n",
        "hosts": "".join(f"{address} {name}\n" for name, address in hosts.items()),
    }
    found = {
        name: text.rstrip("\n") + "\n" + ("" if f"\n{user}:" in text else added[name])
        for name, text in present.items()
    }
    return found | {"nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n"}


def _lines(settings: dict[str, str]) -> str:
    return "".join(f"{key} = {value}\n" for key, value in settings.items())


def downtime_ms(job_info: str) -> float | None:
    """From `virsh domjobinfo --completed`: the line ``Total downtime:  43 ms``."""
    words = _line(job_info, "Total downtime").split()
    return float(words[0]) if words else None


def sent_bytes(job_info: str) -> int | None:
    """From ``Memory processed:  103.4 MiB``."""
    words = _line(job_info, "Memory processed").split()
    units = {"B": 0, "KiB": 10, "MiB": 20, "GiB": 30}
    return round(float(words[0]) * (1 << units[words[1]])) if len(words) == 2 and words[1] in units else None


def _line(text: str, name: str) -> str:
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""
