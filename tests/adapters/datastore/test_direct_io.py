from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from zugvogel.adapters.datastore.direct_io import read_uncached, write_block


@pytest.mark.parametrize("folder", [None, "/dev/shm"])
def test_a_block_is_written_padded_and_read_back(tmp_path: Path, folder: str | None) -> None:
    path = Path(folder or tmp_path) / f"zugvogel-test-{tmp_path.name}"
    try:
        write_block(path, b"first, and longer")
        write_block(path, b"second")
        assert read_uncached(path) == b"second".ljust(4096, b"\0")
    finally:
        path.unlink()


def test_a_file_that_fills_no_block_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 5000)
    assert read_uncached(tmp_path / "f") == b"x" * 5000


def test_more_than_a_block_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="4097"):
        write_block(tmp_path / "f", b"x" * 4097)


def test_a_file_made_elsewhere_is_found_though_its_absence_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on NFS: the folder has to be opened before its client asks the server for the name again."""
    file, real = tmp_path / "answer", os.open

    def opened(path: Path, flags: int, *more: int) -> Any:
        if Path(path) == tmp_path:
            file.write_bytes(b"ready")
        return real(path, flags, *more)

    monkeypatch.setattr(os, "open", opened)
    assert read_uncached(file).rstrip(b"\0") == b"ready"


def test_a_file_that_is_not_there_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing", tmp_path / "no folder" / "nothing"):
        with pytest.raises(FileNotFoundError):
            read_uncached(path)
