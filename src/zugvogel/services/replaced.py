"""A machine that was replaced under its host name, and comes back with its old data.

Its name is another machine's now, and so are the beats and leases under it. Taken for its own of an earlier boot,
they would be released while the other one runs the vms. So this one writes no beat, sends no heartbeat and settles
no lease; QEMUs that it still has are ended, since their leases are not theirs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime

from zugvogel.domain.host import Host
from zugvogel.domain.task import Severity
from zugvogel.errors import Refused
from zugvogel.services.events import EventLog

log = logging.getLogger(__name__)

NEXT_STEP = "stop the agent here, delete its configuration and state, and join it anew under a name of its own"


class Replaced:
    """`joined_at`: when this machine joined (`Host.joined_at`); empty: not known, and nothing is compared.
    `hosts`: as the registry, read last, has them; another list when they changed. A record older than this
    machine's own joining is one of an older registry, and replaces nobody."""

    def __init__(self, host: str, joined_at: str, hosts: Callable[[], list[Host]]) -> None:
        self._host = host
        self._joined_at = joined_at
        self._hosts = hosts
        self._seen: list[Host] = []
        self._why = ""
        self._told = ""

    def why(self) -> str:
        """That another machine has this one's name, and since when; empty: none is known to."""
        hosts = self._hosts()
        if hosts is not self._seen:
            self._seen, self._why = hosts, self._look(hosts)
        return self._why

    def refuse(self) -> None:
        """Raises Refused where another machine has this one's name."""
        if why := self.why():
            raise Refused(why, NEXT_STEP)

    def tell(self, events: EventLog) -> None:
        """Once for each cause."""
        why = self.why()
        if why and why != self._told:
            told = f"{why}; {NEXT_STEP}"
            log.error(told)
            events.emit("host.replaced", self._host, told, severity=Severity.ERROR)
        self._told = why

    def _look(self, hosts: list[Host]) -> str:
        now = next((h for h in hosts if h.name == self._host), None)
        if not self._joined_at or now is None or not _is_later(now.joined_at, self._joined_at):
            return ""
        return (
            f"another machine joined the cluster as {self._host} at {now.joined_at}, and this one, which joined "
            f"at {self._joined_at}, stands down"
        )


def _is_later(at: str, than: str) -> bool:
    """ISO 8601 in UTC, written by one host's clock or another's."""
    return at != than and datetime.fromisoformat(at) > datetime.fromisoformat(than)
