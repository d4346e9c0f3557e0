"""Real files. `make_mount`: bindfs mounts that are always taken down, hung or killed ones too."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from zugvogel.adapters.datastore.store import FileDatastores, FileMountedDatastore
from zugvogel.domain.datastore import Datastore


@dataclass
class Bindfs:
    path: Path
    process: subprocess.Popen[bytes]

    def hang(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def die(self) -> None:
        self.process.kill()
        self.process.wait()


def datastore_at(path: Path) -> Datastore:
    return Datastore(name="store", id="id-1", path=str(path), kind="test", is_shared=True)


async def opened(path: Path, host: str = "host1", deadline_s: float = 10.0) -> FileMountedDatastore:
    datastores = FileDatastores(host, os.getuid(), os.getgid(), deadline_s)
    await datastores.initialise(datastore_at(path))
    return datastores.open(datastore_at(path))


@pytest.fixture
def make_mount(tmp_path: Path) -> Iterator[Callable[[Path, str], Bindfs]]:
    mounts: list[Bindfs] = []

    def mount(source: Path, name: str) -> Bindfs:
        point = tmp_path / name
        point.mkdir()
        process = subprocess.Popen(["bindfs", "-f", str(source), str(point)])
        mounts.append(Bindfs(point, process))
        deadline = time.monotonic() + 20
        while not point.is_mount():
            assert process.poll() is None, "bindfs did not start"
            assert time.monotonic() < deadline, "bindfs did not mount"
            time.sleep(0.02)
        return mounts[-1]

    try:
        yield mount
    finally:
        for bindfs in mounts:
            with contextlib.suppress(ProcessLookupError):
                bindfs.go_on()
            subprocess.run(["umount", "-l", str(bindfs.path)], check=False)
            bindfs.process.kill()
            bindfs.process.wait()
