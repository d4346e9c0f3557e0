"""Power fencing as services see it: the device of a host is in its record (`Host.fence`)."""

from __future__ import annotations

from typing import Protocol

from zugvogel.domain.host import Host


class Fences(Protocol):
    async def power_off(self, host: Host) -> str:
        """Returns what the device said once it says that the power is off. Raises NotFound where no device is
        configured for `host`, ProcedureFailed when it refuses, DeadlineExceeded when it does not answer."""

    async def is_on(self, host: Host) -> bool:
        """What the device says of the power. Nothing is switched. Raises as `power_off`."""
