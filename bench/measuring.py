"""The loop: every row of a scenario once, then all again, so that a slow minute of the machine hits all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from bench import goodput, guests, lab, pings
from bench.contender import Contender
from bench.results import Results
from bench.sample import Sample
from bench.scenarios import MEMORY_MIB, SOURCE, TARGET, TITLES, Scenario
from zugvogel.errors import ZugvogelError
from zugvogel.lab.layout import Layout

SETTLE_S = 1.0
GOODPUT_S = 1.5
Say = Callable[[str], None]


class Measuring:
    """`rows`: name of the row -> who does it. Several rows may belong to one contender. No repetition begins
    after `until` (monotonic seconds)."""

    def __init__(self, layout: Layout, rows: Mapping[str, Contender], say: Say, until: float) -> None:
        self._layout = layout
        self._rows = rows
        self._say = say
        self._until = until

    def run(self, scenario: Scenario, repetitions: int, results: Results) -> None:
        self._say(f"{scenario.title}")
        lab.shape(self._layout, scenario.link_mbit)
        for contender in set(self._rows.values()):
            guests.ask(self._layout, contender.address, scenario.load.calm_query)
        time.sleep(SETTLE_S)
        for number in range(repetitions):
            if time.monotonic() > self._until:
                self._say("  time is up: not measured (again)")
                return
            rate = goodput.measure(self._layout, SOURCE, TARGET, GOODPUT_S)
            for row, contender in self._rows.items():
                sample = self._measure(scenario, row, contender, rate)
                results.add(scenario.name, row, sample)
                self._say(f"  {number + 1}. {TITLES[row]:<24} {_sentence(sample)}")

    def _measure(self, scenario: Scenario, row: str, contender: Contender, rate: float) -> Sample:
        sample = Sample(goodput_bps=rate)
        try:
            self._move(scenario, row, contender, sample)
        except (ZugvogelError, OSError) as error:
            sample.error = str(error)
        time.sleep(SETTLE_S)
        return sample

    def _move(self, scenario: Scenario, row: str, contender: Contender, sample: Sample) -> None:
        if scenario.is_idle and (pid := contender.qemu_pid()) is not None:
            sample.nonzero_bytes = guests.nonzero_bytes(pid, MEMORY_MIB << 20)
        guests.ask(self._layout, contender.address, scenario.load.query)
        try:
            time.sleep(SETTLE_S)
            with pings.watched(self._layout, contender.address, sample):
                contender.move(row, sample)
        finally:
            guests.ask(self._layout, contender.address, scenario.load.calm_query)


def _sentence(sample: Sample) -> str:
    if sample.error:
        return sample.error
    parts = [f"wall {sample.wall_s:.2f} s" if sample.wall_s is not None else ""]
    parts.append(f"down {sample.downtime_ms:.0f} ms" if sample.downtime_ms is not None else "")
    parts.append(f"ping gap {sample.max_gap_ms:.0f} ms" if sample.max_gap_ms is not None else "")
    parts.append(f"{sample.sent_bytes / 1e6:.0f} MB" if sample.sent_bytes is not None else "")
    return ", ".join(part for part in parts if part)
