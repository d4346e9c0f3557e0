"""What a host may claim about itself instead of what it measures (`[overrides]` in agent.toml).

For the lab, so that refusals and admission can be tried on one machine; on real hosts only where a driver
lies (a link speed it does not tell).
"""

from __future__ import annotations

from pydantic import Field

from zugvogel.domain.base import StrictModel


class CpuOverrides(StrictModel):
    """Every field None: as measured. `without_flags` are taken away last, also from `flags`."""

    vendor: str | None = None
    family: int | None = None
    model: int | None = None
    stepping: int | None = None
    name: str | None = None
    flags: frozenset[str] | None = None
    without_flags: frozenset[str] = frozenset()


class Overrides(StrictModel):
    """Every field None or empty: as measured. `vlans`: network name -> VLAN this host claims to have."""

    cores: int | None = Field(default=None, ge=1)
    memory_bytes: int | None = Field(default=None, ge=16 * 1024**2)
    link_mbit: int | None = Field(default=None, ge=0)
    cpu: CpuOverrides = CpuOverrides()
    vlans: dict[str, int] = {}
