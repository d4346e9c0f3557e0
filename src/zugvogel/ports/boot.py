"""One boot of this host, from its start to the next."""

from __future__ import annotations

from typing import Protocol


class Boot(Protocol):
    @property
    def id(self) -> str:
        """The same for every agent of this boot, and of no other."""

    @property
    def has_spoken(self) -> bool:
        """An agent of this boot has been heard by others under this host's name, and none has stood down since."""

    def speaks(self, does: bool) -> None:
        """From now on."""
