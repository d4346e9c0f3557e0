"""Many random scenarios (`sim.chaos`), on several cores, gone on with where an earlier soak was cut off."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path

import tomli_w

import zugvogel
from zugvogel.errors import InvalidInput
from zugvogel.sim.chaos import scenario_of
from zugvogel.sim.run import run

CODE = ("bootstrap", "core", "domain", "ports", "services", "sim")
WORLD_PER_WORKER = 20
"""Then a new process: what a world leaves in memory does not add up."""


@dataclass(frozen=True, slots=True)
class Size:
    """What every seed of a soak has in common."""

    hosts: int
    vms: int
    horizon_s: float


@dataclass(frozen=True, slots=True)
class SeedResult:
    """`took_s` is CPU time."""

    seed: int
    violations: list[str]
    recoveries: int
    took_s: float


@dataclass(slots=True)
class SoakResult:
    """`failed`: the seeds with violations, what was violated, and the scenario files they were written to."""

    seeds: int = 0
    simulated_s: float = 0.0
    took_s: float = 0.0
    recoveries: int = 0
    failed: dict[int, list[str]] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)

    def add(self, found: SeedResult, size: Size) -> None:
        self.seeds += 1
        self.simulated_s += size.horizon_s
        self.took_s += found.took_s
        self.recoveries += found.recoveries
        if found.violations:
            self.failed[found.seed] = found.violations


def seeds_of(text: str) -> range:
    """ "1-500" or "7"."""
    first, _, last = text.partition("-")
    try:
        found = range(int(first), int(last or first) + 1)
    except ValueError:
        raise InvalidInput(f"{text!r} are no seeds", "write 7, or 1-500") from None
    if not found:
        raise InvalidInput(f"{text} are no seeds: the first is above the last", "write 1-500")
    return found


def one(seed: int, size: Size) -> SeedResult:
    began = time.process_time()
    result = run(scenario_of(seed, size.hosts, size.vms, size.horizon_s))
    told = [f"{v.rule} at {v.at_s:g} s: {v.what}" for v in result.violations]
    return SeedResult(seed, told, len(result.recoveries), round(time.process_time() - began, 3))


def soak(
    seeds: range,
    size: Size,
    *,
    jobs: int = 1,
    state: Path | None = None,
    failures: Path | None = None,
    told: Callable[[SeedResult], None] = lambda found: None,
) -> SoakResult:
    """`state`: a file with a line for each seed that is done; those of the same size and of the same code are not
    run again, since what another version of the product did proves nothing of this one.
    `failures`: a directory for the scenarios of seeds that failed."""
    result = SoakResult()
    done = {s.seed: s for s in _known(state, size) if s.seed in seeds}
    for found in done.values():
        result.add(found, size)
    left = [seed for seed in seeds if seed not in done]
    for found in _each(left, size, jobs):
        result.add(found, size)
        if state is not None:
            _remember(state, size, found)
        told(found)
    if failures is not None:
        result.files = [str(write_scenario(seed, size, failures)) for seed in sorted(result.failed)]
    return result


def _each(seeds: list[int], size: Size, jobs: int) -> Iterator[SeedResult]:
    """In any order."""
    if jobs <= 1 or len(seeds) <= 1:
        for seed in seeds:
            yield one(seed, size)
        return
    with same_hashes():
        context = multiprocessing.get_context("spawn")
        with context.Pool(jobs, maxtasksperchild=WORLD_PER_WORKER) as pool:
            yield from pool.imap_unordered(_one, [(seed, size) for seed in seeds])


def _one(work: tuple[int, Size]) -> SeedResult:
    return one(*work)


@contextmanager
def same_hashes() -> Iterator[None]:
    """Processes that are started now hash texts in the same way, so that what an unordered set decides is decided
    alike in each."""
    before = os.environ.get("PYTHONHASHSEED")
    os.environ["PYTHONHASHSEED"] = "0"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONHASHSEED"]
        else:
            os.environ["PYTHONHASHSEED"] = before


def write_scenario(seed: int, size: Size, folder: Path) -> Path:
    """As a file that `zv sim run` takes."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"chaos-{seed}.toml"
    scenario = scenario_of(seed, size.hosts, size.vms, size.horizon_s)
    path.write_text(tomli_w.dumps(scenario.model_dump(mode="json", exclude_none=True, exclude_defaults=True)))
    return path


def _known(state: Path | None, size: Size) -> Iterator[SeedResult]:
    if state is None or not state.exists():
        return
    for line in state.read_text().splitlines():
        try:
            raw = json.loads(line)
            if Size(**raw.pop("size")) == size and raw.pop("code", "") == code_digest():
                yield SeedResult(**raw)
        except (ValueError, TypeError, KeyError):
            continue  # the last line of a soak that was cut off


def _remember(state: Path, size: Size, found: SeedResult) -> None:
    state.parent.mkdir(parents=True, exist_ok=True)
    with state.open("a") as out:
        out.write(json.dumps({"code": code_digest(), "size": asdict(size), **asdict(found)}) + "\n")


@cache
def code_digest() -> str:
    """Of all code that a soak may run: what a seed makes and what comes of it follow from it."""
    found = hashlib.sha256()
    package = Path(zugvogel.__file__).parent
    for folder in CODE:
        for path in sorted((package / folder).rglob("*.py")):
            found.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()[:16]
