"""kvm or tcg? A /dev/kvm alone proves nothing: nested set-ups exist that never boot a stock kernel."""

from __future__ import annotations

import os
from pathlib import Path


def probe_accelerator(cpuinfo: Path = Path("/proc/cpuinfo"), device: Path = Path("/dev/kvm")) -> str:
    """ "kvm" where the CPU offers virtualisation (svm or vmx) and /dev/kvm opens, else "tcg"."""
    flags = next((line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")), "").split()
    if not {"svm", "vmx"} & set(flags):
        return "tcg"
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return "tcg"
    return "kvm"
