"""CPU models of the cluster ("EVC"): named levels, what a host lacks of them, how QEMU is told.

Levels are those of the x86-64 psABI (v3 with xsaveopt, which every CPU of that level has and without which
Linux hangs under TCG); flags in the kernel's spelling (/proc/cpuinfo). Levels fix what a guest
may see, so that any host that has the flags can take it over.
"""

from __future__ import annotations

from collections.abc import Sequence

from zugvogel.domain.host import HostFacts

_V1 = ("lm", "cmov", "cx8", "fpu", "fxsr", "mmx", "syscall", "sse", "sse2")
_V2 = (*_V1, "cx16", "lahf_lm", "popcnt", "pni", "ssse3", "sse4_1", "sse4_2")
_V3 = (*_V2, "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave", "xsaveopt")
_V4 = (*_V3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")

MODELS: dict[str, tuple[str, ...]] = {"x86-64-v1": _V1, "x86-64-v2": _V2, "x86-64-v3": _V3, "x86-64-v4": _V4}
"""Lowest first."""

_QEMU_NAMES = {"pni": "sse3", "sse4_1": "sse4.1", "sse4_2": "sse4.2", "lahf_lm": "lahf-lm"}
_NOT_IN_TCG = frozenset(_V4) - frozenset(_V3)
_IN_QEMU64 = frozenset((*_V1, "pni", "cx16"))
"""What QEMU's oldest 64-bit model has already."""


def missing_flags(model: str, facts: HostFacts) -> tuple[str, ...]:
    """Flags that `model` needs and the host lacks; () for models that are no named level. Under tcg QEMU
    itself is the CPU, and it has no AVX-512."""
    offered = facts.cpu.flags - _NOT_IN_TCG if facts.accelerator == "tcg" else facts.cpu.flags
    return tuple(flag for flag in MODELS.get(model, ()) if flag not in offered)


def best_baseline(facts: Sequence[HostFacts]) -> str:
    """The highest level every host can run; the lowest one when nothing is known."""
    fit = [model for model in MODELS if all(not missing_flags(model, host) for host in facts)]
    return fit[-1] if fit and facts else next(iter(MODELS))


def qemu_cpu_argument(model: str, accelerator: str) -> str:
    """Value of ``-cpu``. Under KVM a flag that the host lacks is an error, not a warning."""
    if model == "host":
        return "host" if accelerator == "kvm" else "max"
    extra = [f"+{_QEMU_NAMES.get(f, f)}" for f in MODELS[model] if f not in _IN_QEMU64]
    enforce = ["enforce"] if accelerator == "kvm" else []
    return ",".join(["qemu64", *extra, *enforce])
