"""What every contender can do: run one guest in the lab, and move it to the other host."""

from __future__ import annotations

from typing import Protocol

from bench.sample import Sample
from bench.scenarios import SOURCE, TARGET


class Contender(Protocol):
    """`address` is the guest's. One guest may serve several contenders' rows (settings of the same product)."""

    @property
    def address(self) -> str: ...

    def qemu_pid(self) -> int | None:
        """Of the QEMU that runs the guest now, seen from here."""
        ...

    def move(self, row: str, sample: Sample) -> None:
        """To the other host, in the manner of `row`; figures go into `sample`. Raises ProcedureFailed: the guest
        still runs, on one of the hosts."""
        ...

    def close(self) -> None: ...


def other(host: str) -> str:
    return TARGET if host == SOURCE else SOURCE
