"""One boot of this host, from its start to the next."""

from __future__ import annotations

from typing import Protocol


class Boot(Protocol):
    @property
    def id(self) -> str:
        """The same for every agent of this boot, and of no other."""

    def has_beaten(self) -> bool:
        """An agent of this boot has written a beat."""

    def beaten(self) -> None:
        """From now on one has."""
