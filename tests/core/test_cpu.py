"""CPU baselines: levels, what a host lacks, QEMU's argument."""

from __future__ import annotations

from itertools import pairwise

from tests.core.facts import cpu
from zugvogel.core.cpu import MODELS, best_baseline, missing_flags, qemu_cpu_argument
from zugvogel.domain.host import HostFacts


def host(flags: tuple[str, ...], accelerator: str = "kvm") -> HostFacts:
    return HostFacts(cpu=cpu(flags=frozenset(flags)), cores=1, memory_total_bytes=1, accelerator=accelerator)


def test_levels_contain_each_other() -> None:
    levels = [set(flags) for flags in MODELS.values()]
    assert all(lower < higher for lower, higher in pairwise(levels))


def test_the_baseline_is_the_best_all_hosts_can_run() -> None:
    v2, v3, v4 = MODELS["x86-64-v2"], MODELS["x86-64-v3"], MODELS["x86-64-v4"]
    assert best_baseline([host(v4), host(v3)]) == "x86-64-v3"
    assert best_baseline([host(v4), host(v2)]) == "x86-64-v2"
    assert best_baseline([host(("lm",))]) == "x86-64-v1"
    assert best_baseline([]) == "x86-64-v1"


def test_missing_flags_are_named_and_tcg_has_no_avx512() -> None:
    v3, v4 = MODELS["x86-64-v3"], MODELS["x86-64-v4"]
    assert missing_flags("x86-64-v3", host(tuple(f for f in v3 if f != "avx2"))) == ("avx2",)
    assert missing_flags("x86-64-v4", host(v4)) == ()
    assert "avx512f" in missing_flags("x86-64-v4", host(v4, "tcg"))


def test_qemu_is_told_in_its_own_spelling_and_kvm_enforces() -> None:
    told = qemu_cpu_argument("x86-64-v2", "kvm").split(",")
    assert told[0] == "qemu64"
    assert "+sse4.2" in told
    assert told[-1] == "enforce"
    assert "enforce" not in qemu_cpu_argument("x86-64-v2", "tcg")
    assert qemu_cpu_argument("host", "kvm") == "host"
    assert qemu_cpu_argument("host", "tcg") == "max"
