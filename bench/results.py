"""All samples of one run, what is derived from them, and the JSON that is kept of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.idle import Idle
from bench.sample import Sample, middle, ratio, typical
from bench.scenarios import LIBVIRT, RAW, SCENARIOS, Scenario
from bench.targets import Check


@dataclass(frozen=True, slots=True)
class Ratios:
    """Of one row's medians: `raw` and `virsh` to the raw script's total and to libvirt's wall, `goodput` and
    `wire` to the time that the link takes at the least (medians of the moves; None where it is not shaped)."""

    raw: float | None
    virsh: float | None
    goodput: float | None
    wire: float | None


@dataclass(slots=True)
class Results:
    """`machine`: what the figures depend on (CPU, cores, versions); never a name or a path."""

    machine: dict[str, Any] = field(default_factory=dict)
    idle: Idle | None = None
    samples: dict[str, dict[str, list[Sample]]] = field(default_factory=dict)

    def add(self, scenario: str, row: str, sample: Sample) -> None:
        self.samples.setdefault(scenario, {}).setdefault(row, []).append(sample)

    @property
    def scenarios(self) -> list[Scenario]:
        return [s for s in SCENARIOS if s.name in self.samples]

    def medians(self, scenario: str) -> dict[str, Sample]:
        return {row: typical(found) for row, found in self.samples.get(scenario, {}).items()}

    def ratios(self, scenario: Scenario, row: str) -> Ratios:
        medians = self.medians(scenario.name)
        mine, nothing = medians[row], Sample()
        good = [s for s in self.samples[scenario.name][row] if not s.error]
        is_shaped = bool(scenario.link_mbit)
        return Ratios(
            raw=ratio(mine.total_s, medians.get(RAW, nothing).total_s),
            virsh=ratio(mine.wall_s, medians.get(LIBVIRT, nothing).wall_s),
            goodput=middle(s.share_of_goodput for s in good) if is_shaped else None,
            wire=middle(s.share_of_wire(scenario.link_mbit) for s in good),
        )

    def as_dict(self, checks: Sequence[Check], at: str, took_s: float) -> dict[str, Any]:
        return {
            "at": at,
            "took_s": round(took_s, 1),
            "machine": self.machine,
            "idle": asdict(self.idle) if self.idle else None,
            "medians": {
                s.name: {
                    row: {**median.as_dict(), "ratios": asdict(self.ratios(s, row))}
                    for row, median in self.medians(s.name).items()
                }
                for s in self.scenarios
            },
            "samples": {
                s: {row: [x.as_dict() for x in found] for row, found in rows.items()}
                for s, rows in self.samples.items()
            },
            "targets": [{**asdict(check), "is_met": check.is_met} for check in checks],
        }
