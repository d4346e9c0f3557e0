"""Power fencing as services see it."""

from __future__ import annotations

from typing import Protocol

from zugvogel.domain.host import Host


class Fences(Protocol):
    async def power_off(self, host: Host) -> str:
        """Returns what the device said once it says that the power is off. Raises NotFound where no device is
        configured for `host`, ProcedureFailed when it refuses, DeadlineExceeded when it does not answer."""
