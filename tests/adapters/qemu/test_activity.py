"""zugvogel.adapters.qemu.activity"""

from __future__ import annotations

from pathlib import Path

from zugvogel.adapters.qemu import activity

DEVICES = """Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier
    lo: 1206      14    0    0    0     0          0         0     1206      14    0    0    0     0       0
 zvtap0:  826      11    0    0    0     0          0         0    14206     140    0    0    0     0       0
zvtap1:99999      31    0    0    0     0          0         0    14206     140    0    0    0     0       0
"""


def test_only_what_the_guest_sent_counts(tmp_path: Path) -> None:
    devices = tmp_path / "dev"
    devices.write_text(DEVICES)
    assert activity.packets_sent(("zvtap0",), devices) == 11
    assert activity.packets_sent(("zvtap0", "zvtap1"), devices) == 42
    assert activity.packets_sent(("gone",), devices) == 0
    assert activity.packets_sent((), devices) == 0
    assert activity.packets_sent(("zvtap0",), tmp_path / "nothing") == 0


def test_every_kind_of_operation_of_every_disk_counts() -> None:
    stats = {"rd_operations": 1, "wr_operations": 2, "flush_operations": 4, "failed_wr_operations": 8}
    assert activity.operations([{"stats": stats}, {"stats": {"rd_operations": 16, "rd_bytes": 4096}}]) == 31
    assert activity.operations([]) == 0
