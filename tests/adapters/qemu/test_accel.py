"""zugvogel.adapters.qemu.accel"""

from __future__ import annotations

from pathlib import Path

import pytest

from zugvogel.adapters.qemu.accel import probe_accelerator


@pytest.mark.parametrize(
    ("flags", "has_device", "expected"),
    [("fpu vmx", True, "kvm"), ("fpu svm", True, "kvm"), ("fpu", True, "tcg"), ("fpu vmx", False, "tcg")],
)
def test_both_the_cpu_and_the_device_must_offer_it(
    tmp_path: Path, flags: str, has_device: bool, expected: str
) -> None:
    cpuinfo, device = tmp_path / "cpuinfo", tmp_path / "kvm"
    cpuinfo.write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    if has_device:
        device.touch()
    assert probe_accelerator(cpuinfo, device) == expected
