"""Whether another machine has this one's host name: this one was replaced and comes back with its old data, or its
disks were copied with its configuration.

The beats and leases under that name are the other one's. Taken for its own of an earlier boot, they would be
released while the other one runs the vms. So this one stands down: it writes no beat, sends no heartbeat, tells no
host what it has, takes up no order, settles no lease and runs no etcd. QEMUs that it still has are frozen, and
ended once their leases are not this boot's. It speaks only once it knows that it has no namesake.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime

from zugvogel.domain.host import Host
from zugvogel.domain.task import Severity
from zugvogel.errors import Refused, Unreachable
from zugvogel.ports.clock import Clock
from zugvogel.services.events import EventLog

log = logging.getLogger(__name__)

NEXT_STEP = "stop the agent here, delete its configuration and state, and join it anew under a name of its own"
RIGHTFUL = "if this is the rightful one, end the other one and restart the agent here"


class Namesakes:
    """`joined_at`: when this machine joined (`Host.joined_at`); empty: not known, and nothing is compared.
    `hosts`: as the registry, read last, has them; another list when they changed. A record older than this
    machine's own joining is one of an older registry, and replaces nobody."""

    def __init__(self, host: str, joined_at: str, hosts: Callable[[], list[Host]], clock: Clock) -> None:
        self._host = host
        self._joined_at = joined_at
        self._hosts = hosts
        self._clock = clock
        self.is_alone: Callable[[], bool] = lambda: True
        """Set by whoever puts the services together: nobody else beats under this name, as far as can be read."""
        self.patience_s: Callable[[], float] = lambda: 0.0
        """For so long this host stays silent where that cannot be read: a datastore that hangs must not silence it
        for ever."""
        self.on_speak: Callable[[bool], None] = lambda does: None
        """Told once when it begins to, and when it stands down for another one that beats."""
        self._asked_at: float | None = None
        self._is_heard = False
        self._seen: list[Host] = []
        self._why = ""
        self._writes = ""
        self._told = ""

    def why(self) -> str:
        """That another machine has this one's name, and how that is known; empty: none is known to."""
        if self._writes:
            return self._writes
        hosts = self._hosts()
        if hosts is not self._seen:
            self._seen, self._why = hosts, self._look(hosts)
        return self._why

    def refuse(self) -> None:
        """Raises Refused where another machine has this one's name."""
        if why := self.why():
            raise Refused(why, self._next_step())

    def may_speak(self) -> bool:
        """This machine may be heard under its name. Of two that send heartbeats under one, the others take in only
        those of the one that started last."""
        if self.why():
            return False
        if not self._is_heard:
            now = self._clock.monotonic()
            self._asked_at = now if self._asked_at is None else self._asked_at
            self._is_heard = self.is_alone() or now - self._asked_at > self.patience_s()
            if self._is_heard:
                self.on_speak(True)
        return self._is_heard

    def require(self) -> None:
        """Raises Unreachable where what this machine says may be taken for the word of another one of its name."""
        if self.may_speak():
            return
        if why := self.why():
            raise Unreachable(why, self._next_step())
        why = f"{self._host} has just started, and looks whether another machine has its name"
        raise Unreachable(why, "try again in a few seconds")

    def other_writes(self, datastore: str, boot_id: str) -> None:
        """Beats of that boot, which is none of this machine's, follow each other there under this one's name. It
        counts until this agent ends, also if they stop: the other one may only have lost its datastore."""
        if self._writes:
            return
        self.on_speak(False)
        self._writes = (
            f"another machine writes beats as {self._host} on datastore {datastore} (boot {boot_id}), "
            f"and this one stands down"
        )

    def tell(self, events: EventLog) -> None:
        """Once for each cause."""
        why = self.why()
        if why and why != self._told:
            told = f"{why}; {self._next_step()}"
            log.error(told)
            events.emit("host.replaced", self._host, told, severity=Severity.ERROR)
        self._told = why

    def _next_step(self) -> str:
        return f"{RIGHTFUL}, else {NEXT_STEP}" if self._writes else NEXT_STEP

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
