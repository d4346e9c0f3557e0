"""Disk images: making, importing, finding; cloud-init seeds. All blocking, by qemu-img and genisoimage."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from zugvogel.adapters.datastore import layout
from zugvogel.errors import InvalidInput, NotFound, Refused, StorageError

_PARTS = {"disk.qcow2": "disk", "disk.raw": "disk", "kernel": "kernel", "initrd": "initrd", "append": "append"}
_IMPORT_S = 6 * 3600
_USER_DATA = (
    b"#cloud-config", b"#!", b"#include", b"#cloud-boothook", b"#part-handler", b"## template:",
    b"Content-Type:", b"MIME-Version:", b"From ", b"\x1f\x8b",
)  # fmt: skip
"""How user-data begins (cloud-init, "User data formats"); the last is gzip of any of them."""


def create_disk(path: Path, format: str, size_bytes: int) -> None:
    """A sparse disk of `size_bytes` at the new file `path`."""
    if format not in {"raw", "qcow2"}:
        raise InvalidInput(f"{format} is no disk format", "use qcow2 or raw")
    options = ["-o", "lazy_refcounts=off,preallocation=off"] if format == "qcow2" else []
    _run(["qemu-img", "create", "-q", "-f", format, *options, str(path), str(size_bytes)])


def inspect(image: Path) -> tuple[str, int]:
    """(format, virtual size) of a raw or qcow2 image that stands alone. Raises `Refused` otherwise."""
    if not image.is_file():
        raise NotFound(f"there is no image {image} on this host", "give the path of a file")
    facts: dict[str, Any] = json.loads(_run(["qemu-img", "info", "-U", "--output", "json", str(image)]))
    found = str(facts["format"])
    if found not in {"raw", "qcow2"}:
        raise Refused(f"{image.name} is a {found} image", "convert it with `qemu-img convert -O qcow2` first")
    details = facts.get("format-specific", {}).get("data", {})
    if facts.get("backing-filename") or facts.get("full-backing-filename"):
        raise Refused(f"{image.name} has the backing file {facts.get('backing-filename')}", _FLATTEN)
    if details.get("data-file"):
        raise Refused(f"{image.name} keeps its data in {details['data-file']}", _FLATTEN)
    if details.get("encrypt") or facts.get("encrypted"):
        raise Refused(f"{image.name} is encrypted", _FLATTEN)
    return found, int(facts["virtual-size"])


_FLATTEN = "make a copy that stands alone with `qemu-img convert -O qcow2`"


def import_image(image: Path, path: Path, size_bytes: int) -> tuple[str, int]:
    """Copy `image` to the new file `path`, grown to `size_bytes` if that is larger. Returns (format, size).
    The format found is given to every later command, so that nothing is guessed twice."""
    found, virtual_bytes = inspect(image)
    _run(["qemu-img", "convert", "-q", "-U", "-f", found, "-O", found, str(image), str(path)], _IMPORT_S)
    if size_bytes > virtual_bytes:
        _run(["qemu-img", "resize", "-q", "-f", found, str(path), str(size_bytes)])
    return found, max(size_bytes, virtual_bytes)


def make_seed(path: Path, user_data: Path, instance_id: str, host_name: str) -> None:
    """A NoCloud seed image (volume label ``cidata``) at `path`. Raises `InvalidInput` for what cloud-init would
    pass over without a word."""
    if not user_data.is_file():
        raise NotFound(f"there is no cloud-init file {user_data} on this host", "give the path of a file")
    with user_data.open("rb") as file:
        if not file.read(64).startswith(_USER_DATA):
            raise InvalidInput(
                f"{user_data} is no user-data: its first line says nothing that cloud-init knows",
                "begin it with the line #cloud-config (or #! for a script)",
            )
    with tempfile.TemporaryDirectory(prefix="zugvogel-seed-") as folder:
        shutil.copyfile(user_data, Path(folder, "user-data"))
        meta = {"instance-id": instance_id, "local-hostname": host_name}  # JSON is YAML, with every name a text
        Path(folder, "meta-data").write_text(json.dumps(meta) + "\n")
        parts = [str(Path(folder, name)) for name in ("user-data", "meta-data")]
        _run(["genisoimage", "-quiet", "-output", str(path), "-volid", "cidata", "-joliet", "-rock", *parts])


def find_image(datastore_path: str, image: str) -> dict[str, Path]:
    """As `ports.storage.Datastores.find_image`."""
    if image.startswith("/"):
        if not Path(image).is_file():
            raise NotFound(f"there is no image {image} on this host", "give the path of a file")
        return {"disk": Path(image)}
    images = layout.own(datastore_path) / "images"
    folder = images / layout.checked_name(image)
    found = {key: folder / name for name, key in _PARTS.items() if (folder / name).is_file()}
    if not found:
        there = sorted(layout.names_in(images)) if images.is_dir() else []
        raise NotFound(f"there is no image {image}", f"there are: {', '.join(there) or 'none'}")
    return found


def _run(command: list[str], timeout_s: float = 120) -> str:
    """Output of a tool. Raises `StorageError` with its last line."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except FileNotFoundError:
        package = {"genisoimage": "genisoimage", "qemu-img": "qemu-utils"}[command[0]]
        raise Refused(f"{command[0]} is not installed on this host", f"install the package {package}") from None
    except subprocess.TimeoutExpired:
        raise StorageError(f"{command[0]} did not end within {timeout_s:g} s", "check the storage") from None
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        step = "free space on the datastore" if "No space left" in last else "check the image and the datastore"
        raise StorageError(last, step)
    return done.stdout
