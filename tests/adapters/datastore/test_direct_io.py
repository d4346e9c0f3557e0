from __future__ import annotations

from pathlib import Path

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
