"""libvirt as a user drives it: `virsh migrate --live` between two daemons, each inside a lab host.

The lab host's own namespaces (network, mounts, pids, name) are the daemon's: `/run` is private there already,
the other directories of libvirt are laid over with bind mounts. All of it ends with the lab's hosts.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import time
import uuid
from pathlib import Path

from bench import guests, libvirt_domain
from bench.contender import other
from bench.lab import MOVE_S, qemu_pid
from bench.sample import Sample
from bench.scenarios import HOSTS, LIBVIRT_30, LIBVIRT_LIMIT_MS, MEMORY_MIB, SOURCE
from zugvogel.errors import ProcedureFailed, Refused
from zugvogel.lab import host as lab_host
from zugvogel.lab import processes
from zugvogel.lab.layout import BRIDGE, Layout

NAME, MAC, ADDRESS = "bench-libvirt", "52:54:00:be:0c:02", "198.51.100.202"
FOLDERS = {
    "etc": Path("/etc/libvirt"),
    "lib": Path("/var/lib/libvirt"),
    "cache": Path("/var/cache/libvirt"),
    "log": Path("/var/log/libvirt"),
}
READY_S = 60.0


class LibvirtSide:
    def __init__(self, layout: Layout, cpu_model: str, memory_mib: int = MEMORY_MIB) -> None:
        self._layout = layout
        self._daemons: list[subprocess.Popen[bytes]] = []
        self._made = [path for path in FOLDERS.values() if not path.exists()]
        self._host = SOURCE
        emulator = shutil.which("qemu-system-x86_64")
        if shutil.which("libvirtd") is None or shutil.which("virsh") is None or emulator is None:
            raise Refused("libvirtd or virsh is not installed", "run scripts/bench_packages.sh")
        try:
            for path in self._made:
                path.mkdir()
            for name in HOSTS:
                self._start_daemon(name)
            for name in HOSTS:
                self._wait_for_daemon(name)
            self._start_guest(cpu_model, Path(emulator), memory_mib)
        except BaseException:
            self.close()
            raise

    @property
    def address(self) -> str:
        return ADDRESS

    def qemu_pid(self) -> int | None:
        return qemu_pid(self._layout, self._host, NAME)

    # moving --------------------------------------------------------------------------------------

    def move(self, row: str, sample: Sample) -> None:
        """`wall_s` is the command's, start of the client's process included. The downtime is libvirt's word."""
        source, target = self._host, other(self._host)
        if row == LIBVIRT_30:
            self._virsh(source, "migrate-setmaxdowntime", NAME, str(LIBVIRT_LIMIT_MS))
        address = self._layout.load().host(target).address
        began = time.monotonic()
        self._virsh(
            source,
            *("migrate", "--live", "--timeout", str(int(MOVE_S)), NAME),
            *(f"qemu+tcp://{address}/system", "--migrateuri", f"tcp://{address}"),
        )
        sample.wall_s = sample.total_s = time.monotonic() - began
        self._host = target
        with contextlib.suppress(ProcedureFailed):
            told = self._virsh(target, "domjobinfo", NAME, "--completed")
            sample.downtime_ms = libvirt_domain.downtime_ms(told)
            sample.sent_bytes = libvirt_domain.sent_bytes(told)

    def save_and_restore(self, file: str) -> tuple[float, float]:
        """Seconds of `virsh save` here and `virsh restore` on the other host, past the page cache."""
        source, target = self._host, other(self._host)
        began = time.monotonic()
        self._virsh(source, "save", "--bypass-cache", NAME, file)
        saved = time.monotonic()
        self._virsh(target, "restore", "--bypass-cache", file)
        self._host = target
        return saved - began, time.monotonic() - saved

    def _virsh(self, host: str, *arguments: str) -> str:
        """Standard output. Raises ProcedureFailed."""
        command = lab_host.command(self._layout, host, ["virsh", "--quiet", "-c", "qemu:///system", *arguments])
        try:
            done = subprocess.run(
                command, env=self._layout.environment, capture_output=True, text=True,
                timeout=MOVE_S + 20.0, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise ProcedureFailed(f"virsh {arguments[0]} did not end within {MOVE_S + 20:.0f} s") from error
        if done.returncode != 0:
            raise ProcedureFailed(f"virsh {arguments[0]}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    # setting up ------------------------------------------------------------------------------------

    def _folder(self, host: str) -> Path:
        return self._layout.host(host).base / "libvirt"

    def _start_daemon(self, host: str) -> None:
        folder, address = self._folder(host), self._layout.load().host(host).address
        for name, point in FOLDERS.items():
            (folder / name).mkdir(parents=True, exist_ok=True)
            lab_host.execute(self._layout, host, ["mount", "--bind", str(folder / name), str(point)])
        self._lay_over_etc(host, folder)
        for name, text in libvirt_domain.configuration(str(uuid.uuid4()), address).items():
            (folder / "etc" / name).write_text(text)
        command = lab_host.command(self._layout, host, ["libvirtd", "--listen"])
        with open(folder / "libvirtd.log", "wb") as log:
            self._daemons.append(
                subprocess.Popen(
                    command, env=self._layout.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
            )

    def _lay_over_etc(self, host: str, folder: Path) -> None:
        """This host alone sees: the user without which the daemon does not start (its package would make it), and
        names that need no name server (else libvirt waits for one, for half a minute in every move)."""
        for name, text in libvirt_domain.etc_files(
            {name: self._read(host, f"/etc/{name}") for name in ("passwd", "group", "hosts")},
            {h.name: h.address for h in self._layout.load().hosts},
        ).items():
            (folder / name).write_text(text)
            lab_host.execute(self._layout, host, ["mount", "--bind", str(folder / name), f"/etc/{name}"])

    def _read(self, host: str, path: str) -> str:
        return lab_host.execute(self._layout, host, ["cat", path])

    def _wait_for_daemon(self, host: str) -> None:
        deadline = time.monotonic() + READY_S
        while True:
            try:
                self._virsh(host, "capabilities")
                return
            except ProcedureFailed as error:
                if time.monotonic() > deadline:
                    log = (self._folder(host) / "libvirtd.log").read_text(errors="replace").splitlines()
                    why = next((line for line in reversed(log) if " error : " in line), str(error))
                    raise ProcedureFailed(f"libvirtd on {host} does not answer: {why}") from error
            time.sleep(0.5)

    def _start_guest(self, cpu_model: str, emulator: Path, memory_mib: int) -> None:
        xml = self._folder(SOURCE) / "domain.xml"
        xml.write_text(
            libvirt_domain.domain_xml(
                guests.definition(NAME, MAC, ADDRESS, cpu_model, memory_mib),
                accelerator=guests.accelerator(),
                emulator=emulator,
                images=guests.image_folder(self._layout),
                log=Path(f"/var/log/libvirt/{NAME}.serial"),
                bridge=BRIDGE,
            )
        )
        self._virsh(SOURCE, "create", str(xml))

    def close(self) -> None:
        """The guest, the daemons, and the mount points made for them; their mounts end with the lab's hosts."""
        for host in HOSTS:
            with contextlib.suppress(ProcedureFailed, Refused):
                self._virsh(host, "destroy", NAME)
        for host in HOSTS:
            for pid in lab_host.members(self._layout, host):
                if processes.command_name(pid) == "libvirtd":
                    processes.send(pid, signal.SIGTERM)
        for daemon in self._daemons:  # nsenter, which ends with the daemon it waits for
            try:
                daemon.wait(10.0)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait(10.0)
        for name in HOSTS:
            for point in FOLDERS.values():
                with contextlib.suppress(ProcedureFailed, Refused):
                    lab_host.execute(self._layout, name, ["umount", "--lazy", str(point)])
        for path in self._made:
            with contextlib.suppress(OSError):
                path.rmdir()
