"""Builds the lab guest: a Debian cloud kernel and an initramfs that hold a whole guest for 128 MB.

What the guest does (boots in seconds under TCG, needs no disk):

- `eth0` by DHCP, asked for until there is an answer, or by the kernel argument ``zv.ip=ADDRESS/PREFIX[,GATEWAY]``.
- ``GET /state`` on port 80: `boot_id`, `uptime_s`, `clock_s`, a `counter` (+1 every 10 ms), `dirty`, `fill_bytes`,
  `disk`, `memory`. Rates (`*_bps`) are bytes per second.
- ``GET /load?...`` changes what is named and answers with the state; 400 for a bad request (nothing is done) or
  for a load that the guest cannot carry (memory, no disk).
  Sizes are MiB, rates MiB/s: ``dirty_mb_s`` and ``working_set_mb`` (0 stops; ``fill=random``, the default,
  writes whole pages of incompressible data, ``fill=touch`` 8 bytes of each), ``fill_mb`` (memory kept, in total),
  ``disk=1`` with ``disk_mb`` (16) and ``rate_mb_s`` (1) writes self-checking blocks to /dev/vda, **destroying what
  is there**, and reads random older ones back; ``disk=0`` stops; ``verify=1`` checks all pages and blocks.
  A restarted guest told the same ``disk_mb`` goes on with the blocks it finds and counts lost writes as errors.
- ``GET /panic``: its kernel panics. ``GET /fault?...`` with one of: ``agent=silent`` and ``agent=runs`` (its agent
  is stopped, and goes on); ``watchdog_s=N`` (1 to 600: an i6300esb watchdog is set to that and fed);
  ``watchdog=starves`` (it is fed no more).
- TCP echo on port 7; a root shell on ttyS0, and one on the screen of a vm that has a display (text mode; keys by
  the PC's keyboard); the ACPI power button powers it off at once.

A second initramfs has Debian's qemu-guest-agent as well, with the libraries of this machine.

Needs apt, dpkg, gcc with the static C library, busybox-static and cpio; root is not needed.
"""

from __future__ import annotations

import argparse
import fcntl
import gzip
import hashlib
import lzma
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from zugvogel.errors import ProcedureFailed, Refused, ZugvogelError

SOURCES = Path(__file__).parent / "guest_src"
KERNEL_META_PACKAGE = "linux-image-cloud-amd64"
MODULES = (
    "virtio_pci",
    "virtio_net",
    "virtio_blk",
    "virtio_rng",
    "virtio_console",
    "button",
    "evdev",
    "pvpanic_mmio",
)
APPEND = "console=tty0 console=ttyS0 quiet loglevel=3 panic=1 mitigations=off no_timer_check random.trust_cpu=on"
BUSYBOX = ("/bin/busybox", "/usr/bin/busybox")
PROGRAM = "labguest"
AGENT_PACKAGE = "qemu-guest-agent"
FILES = ("kernel", "initrd", "agent-initrd", "append")
SCRIPTS = {"init": "init", "netup": "sbin/netup", "lease": "sbin/lease"}
SETTINGS = {"inittab": "etc/inittab", "profile": "etc/profile"}
TOOL_PACKAGES = {
    "apt-cache": "apt",
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    "gcc": "gcc libc6-dev",
    "cpio": "cpio",
}


@dataclass(frozen=True)
class GuestImage:
    """What QEMU's `-kernel`, `-initrd` and `-append` want. `agent_initrd`: the same with a guest agent."""

    kernel: Path
    initrd: Path
    agent_initrd: Path
    append: str


def cache_dir() -> Path:
    """`lab-guest` below `$ZUGVOGEL_CACHE`, else below /var/cache/zugvogel."""
    return Path(os.environ.get("ZUGVOGEL_CACHE") or "/var/cache/zugvogel") / "lab-guest"


def build(force: bool = False) -> GuestImage:
    """The guest's files in `cache_dir()`: kernel, initrd, append; built if the sources changed or by `force`.

    Several builders at once wait for each other. The kernel's version is looked up only when building.

    Raises:
        Refused: a tool is missing, or the cache cannot be written.
        ProcedureFailed: a tool failed; the files of an earlier build are untouched.
    """
    cache = cache_dir()
    with _locked(cache):
        stamp, wanted = cache / "stamp", _source_hash()
        image = GuestImage(cache / "kernel", cache / "initrd", cache / "agent-initrd", APPEND)
        complete = all((cache / name).exists() for name in (*FILES, "stamp"))
        if force or not complete or stamp.read_text() != wanted:
            _require_tools()
            with tempfile.TemporaryDirectory(dir=cache, prefix="build.") as scratch:
                built = _build_files(Path(scratch), cache)
                stamp.unlink(missing_ok=True)  # a cut between two of the renames leaves an unstamped image
                for name in FILES:
                    (built / name).replace(cache / name)
                (built / "stamp").write_text(wanted)
                (built / "stamp").replace(stamp)
    return image


@contextmanager
def _locked(cache: Path) -> Iterator[None]:
    try:
        cache.mkdir(parents=True, exist_ok=True)
        lock = (cache / "lock").open("w")
    except OSError as error:
        raise Refused(
            f"the lab guest's cache {cache} cannot be written ({error.strerror})",
            "run as root, or set ZUGVOGEL_CACHE to a directory of yours",
        ) from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _source_hash() -> str:
    digest = hashlib.sha256()
    for path in [Path(__file__), *sorted(SOURCES.iterdir())]:
        if path.is_file():
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _require_tools() -> None:
    for tool, package in TOOL_PACKAGES.items():
        if shutil.which(tool) is None:
            raise Refused(f"{tool} is missing, the lab guest cannot be built", f"apt-get install {package}")
    _busybox()


def _busybox() -> Path:
    """A busybox that is linked statically (one that is not has a program interpreter)."""
    for path in map(Path, BUSYBOX):
        if path.exists() and b"/ld-linux" not in path.read_bytes():
            return path
    raise Refused("a static busybox is missing, the lab guest cannot be built", "apt-get install busybox-static")


def _run(*command: str, cwd: Path | None = None, stdin: bytes = b"") -> bytes:
    done = subprocess.run(command, cwd=cwd, input=stdin, capture_output=True, check=False)
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
        raise ProcedureFailed(f"building the lab guest: {command[0]} failed: {lines[-1]}")
    return done.stdout


def _build_files(scratch: Path, cache: Path) -> Path:
    unpacked, root, built = scratch / "kernel", scratch / "root", scratch / "built"
    for directory in (unpacked, root, built):
        directory.mkdir()
    packages = cache / "packages"
    packages.mkdir(exist_ok=True)
    _run("dpkg-deb", "-x", str(_package(packages, _kernel_package())), str(unpacked))
    _fill_root(root, _module_files(unpacked))
    kernels = list(unpacked.glob("boot/vmlinuz-*"))
    if not kernels:
        raise ProcedureFailed("the kernel package holds no boot/vmlinuz")
    shutil.copyfile(kernels[0], built / "kernel")
    initrd = _archive(root)
    (built / "initrd").write_bytes(initrd)
    (built / "agent-initrd").write_bytes(initrd + _archive(_agent_root(scratch, packages)))  # both are unpacked
    (built / "append").write_text(APPEND + "\n")
    return built


def _archive(root: Path) -> bytes:
    names = "\n".join(sorted(str(path.relative_to(root)) for path in root.rglob("*")))
    archive = _run("cpio", "-o", "-H", "newc", "-R", "0:0", "--quiet", cwd=root, stdin=names.encode())
    return gzip.compress(archive, 6, mtime=0)


def _agent_root(scratch: Path, packages: Path) -> Path:
    """qemu-ga with what it is linked against, found on this machine: QEMU itself needs most of it."""
    unpacked, root = scratch / "agent", scratch / "agent-root"
    for directory in (unpacked, root / "sbin"):
        directory.mkdir(parents=True)
    _run("dpkg-deb", "-x", str(_package(packages, AGENT_PACKAGE)), str(unpacked))
    shutil.copy(unpacked / "usr/sbin/qemu-ga", root / "sbin/qemu-ga")
    (root / "sbin/hwclock").symlink_to("/bin/busybox")  # qemu-ga runs it after it set the clock
    for library in re.findall(r"(/\S+) \(0x", _run("ldd", str(root / "sbin/qemu-ga")).decode()):
        target = root / library.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, target)
    return root


def _kernel_package() -> str:
    """The newest cloud kernel that apt knows."""
    depends = _run("apt-cache", "depends", "--important", KERNEL_META_PACKAGE).decode()
    found = re.search(r"Depends: (linux-image-\S+-cloud-amd64)$", depends, re.MULTILINE)
    if not found:
        raise ProcedureFailed(
            f"apt knows no {KERNEL_META_PACKAGE}", "run `apt-get update` on a Debian release that has it"
        )
    return found[1]


def _package(packages: Path, name: str) -> Path:
    """The newest that apt knows, downloaded once."""
    # apt's own sandbox user could not write into this directory; an intact file is not fetched again.
    _run("apt-get", "-q", "-o", "APT::Sandbox::User=", "download", name, cwd=packages)
    newest = max(packages.glob(f"{name}_*.deb"), key=lambda path: path.stat().st_mtime)
    for old in packages.glob(f"{name}_*.deb"):
        if old != newest:
            old.unlink()
    return newest


def _module_files(unpacked: Path) -> dict[str, bytes]:
    """The wanted modules and what they need, in loading order. What the kernel has built in is no file."""
    files = {
        _module_name(path.name.split(".")[0]): path for path in unpacked.glob("lib/modules/*/kernel/**/*.ko*")
    }
    builtin = {
        _module_name(Path(line).stem)
        for listing in unpacked.glob("lib/modules/*/modules.builtin")
        for line in listing.read_text().splitlines()
    }
    contents: dict[str, bytes] = {}
    depends: dict[str, Sequence[str]] = {}
    missing = [name for name in MODULES if name not in builtin]
    while missing:
        name = missing.pop()
        if name in contents:
            continue
        if name not in files:
            raise ProcedureFailed(f"the cloud kernel has no module {name}")
        contents[name] = _uncompressed(files[name])
        depends[name] = module_depends(contents[name])
        missing += depends[name]
    return {name: contents[name] for name in load_order([n for n in MODULES if n in contents], depends)}


def _module_name(name: str) -> str:
    return name.replace("-", "_")


def _uncompressed(path: Path) -> bytes:
    return lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()


def module_depends(module: bytes) -> list[str]:
    """The names in the `depends=` entry of a module's .modinfo section."""
    found = re.search(rb"\0depends=([^\0]*)\0", module)
    return [_module_name(name) for name in found[1].decode().split(",") if name] if found else []


def load_order(wanted: Sequence[str], depends: Mapping[str, Sequence[str]]) -> list[str]:
    """`wanted` and all they depend on, each after what it needs."""
    order: list[str] = []

    def visit(name: str) -> None:
        if name not in order:
            for needed in depends.get(name, ()):
                visit(needed)
            order.append(name)

    for name in wanted:
        visit(name)
    return order


def _fill_root(root: Path, modules: Mapping[str, bytes]) -> None:
    for directory in ("bin", "sbin", "etc", "lib/modules"):
        (root / directory).mkdir(parents=True)
    shutil.copyfile(_busybox(), root / "bin/busybox")
    for number, (name, content) in enumerate(modules.items()):
        (root / f"lib/modules/{number:02}-{name}.ko").write_bytes(content)
    for source, target in (SCRIPTS | SETTINGS).items():
        shutil.copyfile(SOURCES / source, root / target)
    program = root / "sbin" / PROGRAM
    code = map(str, sorted(SOURCES.glob("*.c")))
    _run("gcc", "-static", "-O2", "-Wall", "-Wextra", "-s", "-pthread", "-o", str(program), *code)
    for executable in ("bin/busybox", f"sbin/{PROGRAM}", *SCRIPTS.values()):
        (root / executable).chmod(0o755)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m zugvogel.lab.guest", description="Build the lab guest.")
    command = parser.add_subparsers(required=True).add_parser("build", help="build it unless it is up to date")
    command.add_argument("--force", action="store_true", help="build anew, with the newest kernel apt knows")
    try:
        image = build(force=parser.parse_args(arguments).force)
    except ZugvogelError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(f"kernel {image.kernel}\ninitrd {image.initrd}\nappend {image.append}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
