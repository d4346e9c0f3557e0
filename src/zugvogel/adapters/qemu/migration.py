"""QMP's migration vocabulary in ours."""

from __future__ import annotations

from typing import Any

from zugvogel.domain.migration import MigrationSample


def channel(address: str, port: int) -> dict[str, Any]:
    """Arguments of `migrate` and `migrate-incoming`."""
    host = f"[{address}]" if ":" in address else address
    return {"uri": f"tcp:{host}:{port}"}


def sample(found: dict[str, Any]) -> MigrationSample:
    """From `query-migrate`. QEMU gives `mbps` in 10^6 bit/s and the dirty rate in pages/s."""
    ram: dict[str, Any] = found.get("ram", {})
    return MigrationSample(
        status=str(found.get("status", "none")),
        transferred_bytes=int(ram.get("transferred", 0)),
        remaining_bytes=int(ram.get("remaining", 0)),
        total_bytes=int(ram.get("total", 0)),
        normal_bytes=int(ram.get("normal-bytes", 0)),
        dirty_rate_bps=float(ram.get("dirty-pages-rate", 0)) * int(ram.get("page-size", 4096)),
        throughput_bps=float(ram.get("mbps", 0.0)) * 1e6 / 8,
        rounds=int(ram.get("dirty-sync-count", 0)),
        expected_downtime_ms=float(found.get("expected-downtime", 0)),
        downtime_ms=float(found.get("downtime", 0)),
        total_ms=float(found.get("total-time", 0)),
        error=str(found.get("error-desc", "")),
    )
