"""etcd as a child of the agent: started, watched, started again, ended with it."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

from zugvogel.adapters.pki import Pki
from zugvogel.errors import Refused

log = logging.getLogger(__name__)

PR_SET_PDEATHSIG = 1
RESTART_S = (0.5, 1.0, 2.0, 5.0)
STEADY_S = 30.0
"""A process that ends after so long was no failure to start."""
STOP_S = 5.0


@dataclass(frozen=True, slots=True)
class EtcdSpec:
    """`initial_cluster`: name -> peer URL of all members at the moment of joining. `is_new`: this member
    begins the cluster. Both count only for an empty data directory. `is_forced`: from the data that is there make
    this the only member; others become removed ones, whom it will not listen to."""

    name: str
    address: str
    client_port: int
    peer_port: int
    data_dir: Path
    log_file: Path
    pki: Pki
    initial_cluster: dict[str, str]
    is_new: bool
    cluster_token: str
    is_forced: bool = False

    @property
    def peer_url(self) -> str:
        return f"https://{self.address}:{self.peer_port}"

    @property
    def client_url(self) -> str:
        return f"https://{self.address}:{self.client_port}"


def arguments(spec: EtcdSpec) -> list[str]:
    pki = spec.pki
    ca, certificate, key = str(pki.ca_certificate), str(pki.host_certificate), str(pki.host_key)
    members = ",".join(f"{name}={url}" for name, url in spec.initial_cluster.items())
    return [
        *("--name", spec.name),
        *("--data-dir", str(spec.data_dir)),
        *("--listen-client-urls", spec.client_url),
        *("--advertise-client-urls", spec.client_url),
        *("--listen-peer-urls", spec.peer_url),
        *("--initial-advertise-peer-urls", spec.peer_url),
        *("--initial-cluster", members),
        *("--initial-cluster-state", "new" if spec.is_new else "existing"),
        *("--initial-cluster-token", spec.cluster_token),
        *("--cert-file", certificate, "--key-file", key, "--trusted-ca-file", ca),
        "--client-cert-auth",
        *("--peer-cert-file", certificate, "--peer-key-file", key, "--peer-trusted-ca-file", ca),
        "--peer-client-cert-auth",
        *("--auto-compaction-mode", "periodic", "--auto-compaction-retention", "10m"),
        *("--quota-backend-bytes", str(256 << 20)),
        *("--snapshot-count", "5000"),
        *("--heartbeat-interval", "200", "--election-timeout", "2000"),
        *("--logger", "zap", "--log-level", "warn"),
        *(("--force-new-cluster",) if spec.is_forced else ()),
    ]


class EtcdSupervisor:
    def __init__(self, spec: EtcdSpec, binary: str = "etcd") -> None:
        self._spec = spec
        found = shutil.which(binary, path="/usr/local/bin:/usr/bin:/usr/sbin:/bin")
        if found is None:
            raise Refused("etcd is not installed", "install the package etcd-server")
        self._binary = found
        self._process: asyncio.subprocess.Process | None = None
        self._is_stopping = False
        self.failures = 0
        """How often in a row the process ended soon after its start."""

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    async def run(self) -> None:
        """Until `stop`; a member that ends is started again, slower each time it ends at once."""
        loop = asyncio.get_running_loop()
        while not self._is_stopping:
            began = loop.time()
            with self._spec.log_file.open("ab") as output:
                self._process = await asyncio.create_subprocess_exec(
                    self._binary,
                    *arguments(self._spec),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    preexec_fn=_die_with_parent,
                    env={"PATH": "/usr/bin:/bin", "GOGC": "50", "ETCD_UNSUPPORTED_ARCH": ""},
                )
            code = await self._process.wait()
            if self._is_stopping:
                return
            self.failures = 0 if loop.time() - began > STEADY_S else self.failures + 1
            log.warning("etcd ended with %s; see %s", code, self._spec.log_file)
            await asyncio.sleep(RESTART_S[min(self.failures, len(RESTART_S) - 1)])

    async def stop(self) -> None:
        self._is_stopping = True
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), STOP_S)
            except TimeoutError:
                process.kill()
                await process.wait()


_libc = ctypes.CDLL(None)


def _die_with_parent() -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
