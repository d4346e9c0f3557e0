"""What is measured: guests, links, contenders. Data only."""

from __future__ import annotations

from dataclasses import dataclass

MEMORY_MIB = 512
SOURCE, TARGET = "host1", "host2"
HOSTS = (SOURCE, TARGET)
IMAGE = "lab-guest"


@dataclass(frozen=True, slots=True)
class Load:
    """What every guest is told: MiB kept filled, MiB/s dirtied over `working_set_mb`."""

    fill_mb: int = 0
    dirty_mb_s: int = 0
    working_set_mb: int = 0

    @property
    def query(self) -> str:
        return f"/load?fill_mb={self.fill_mb}&dirty_mb_s={self.dirty_mb_s}&working_set_mb={self.working_set_mb}"

    @property
    def calm_query(self) -> str:
        """The same memory kept, nothing dirtied: for the guests that are not being moved."""
        return f"/load?fill_mb={self.fill_mb}&dirty_mb_s=0&working_set_mb=0"


@dataclass(frozen=True, slots=True)
class Scenario:
    """`link_mbit` 0: not shaped."""

    name: str
    title: str
    load: Load
    link_mbit: int = 0

    @property
    def is_idle(self) -> bool:
        return self.load.dirty_mb_s == 0


_DIRTYING = {"dirty_mb_s": 20, "working_set_mb": 64}
SCENARIOS = (
    Scenario("idle", "idle guest, link not shaped", Load()),
    Scenario("dirtying", "guest dirties 20 MiB/s, link not shaped", Load(**_DIRTYING)),
    Scenario("idle-1g", "idle guest with 192 MiB of data more, 1 Gbit/s", Load(fill_mb=192), link_mbit=1000),
    Scenario(
        "dirtying-1g",
        "guest with 192 MiB of data more dirties 20 MiB/s, 1 Gbit/s",
        Load(fill_mb=192, **_DIRTYING),
        link_mbit=1000,
    ),
)
"""In this order: memory once filled stays non-zero in the guest, so what is sent only grows."""

ZUGVOGEL_TLS, ZUGVOGEL_PLAIN = "zugvogel", "zugvogel-plain"
ZUGVOGEL_ONE = "zugvogel-one-stream"
RAW, RAW_MANY = "raw-qmp", "raw-qmp-multifd"
LIBVIRT, LIBVIRT_30 = "libvirt", "libvirt-30ms"
TITLES = {
    ZUGVOGEL_TLS: "Zugvogel (TLS)",
    ZUGVOGEL_PLAIN: "Zugvogel, no TLS",
    ZUGVOGEL_ONE: "Zugvogel (TLS), 1 stream",
    RAW: "raw QMP script",
    RAW_MANY: "raw QMP, 4 streams",
    LIBVIRT: "libvirt, default",
    LIBVIRT_30: "libvirt, 30 ms limit",
}
LIBVIRT_LIMIT_MS = 30
