"""Pings at 10 ms and at 1 s spacing from the lab's client while something happens."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from bench.sample import Sample
from zugvogel.lab.layout import Layout
from zugvogel.lab.ping import PingResult, ping_from_client

FAST_MS, SLOW_MS = 10.0, 1000.0
BEFORE_S, AFTER_S = 0.3, 0.7
LONGEST_S = 180.0


@contextmanager
def watched(layout: Layout, address: str, sample: Sample) -> Iterator[None]:
    """Writes `max_gap_ms`, `lost_10ms` and `lost_1s` into `sample` when the block ends."""
    stop = threading.Event()
    results: dict[float, PingResult] = {}

    def run(interval_ms: float) -> None:
        results[interval_ms] = ping_from_client(
            layout, address, interval_ms=interval_ms, seconds=LONGEST_S, should_stop=stop.is_set
        )

    threads = [threading.Thread(target=run, args=(ms,), daemon=True) for ms in (FAST_MS, SLOW_MS)]
    for thread in threads:
        thread.start()
    time.sleep(BEFORE_S)
    try:
        yield
        time.sleep(AFTER_S)
    finally:
        stop.set()
        for thread in threads:
            thread.join(10.0)
    if len(results) == len(threads):
        sample.max_gap_ms = results[FAST_MS].max_gap_ms
        sample.lost_10ms, sample.lost_1s = results[FAST_MS].lost, results[SLOW_MS].lost
