"""Writes docs/reference/metrics.md from the table of metrics itself: `python scripts/metrics_reference.py`.

With `--check` it writes nothing and ends with 1 when the file is not up to date.
"""

from __future__ import annotations

import sys
from pathlib import Path

from zugvogel.api.metrics import METRICS, Distribution, Metric

TARGET = Path(__file__).resolve().parent.parent / "docs" / "reference" / "metrics.md"
HEAD = """\
# Metrics

<!-- Written by scripts/metrics_reference.py from the program itself. Change the texts there, not this page. -->

Each agent serves them at `https://HOST:7440/metrics`, as Prometheus' text or as OpenMetrics, to bearers with the
role `viewer` or more. How to use them: [monitor a cluster](../how-to/monitor.md).

- **Gauges** are read at the scrape. **Counters and histograms** count since the agent started, on its host alone:
  sum them over all hosts. Nothing is written down for them, so that a restart of the agent begins at 0.
- Metrics marked *primaries* tell of the whole cluster. Each primary tells what it sees itself, without asking
  anybody, so several tell nearly the same: take `max` or `min` over them, not `sum`. Secondaries leave them out.
- The number of series is bounded by hosts, datastores, the VMs of the host, and kinds of tasks and events.
- Beside these there are the usual `process_*` of the agent.

| metric | kind | labels | what it tells |
|---|---|---|---|
"""
TAIL = """
Of a histogram there are `_bucket` (with the label `le`), `_sum` and `_count`, as usual.
"""


def reference() -> str:
    """The whole page."""
    return HEAD + "".join(f"{_row(metric)}\n" for metric in METRICS) + TAIL


def _row(metric: Metric | Distribution) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    kind = f"{metric.kind}, *primaries*" if metric.on_primaries else metric.kind
    return f"| `{metric.name}` | {kind} | {labels} | {metric.text} |"


if __name__ == "__main__":
    import reference_page

    sys.exit(reference_page.keep(TARGET, reference()))
