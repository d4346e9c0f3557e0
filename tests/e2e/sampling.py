"""Which cuts `make test` makes: every fifth of each kind, another fifth for each kind. `make cuts` makes all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

EVERY = 5


def sampled(cuts: Sequence[Any], kind: int) -> list[Any]:
    """The cuts as pytest parameters, those left to `make cuts` marked. `kind`: a number that differs by kind, so
    that each step is cut in some way in every run."""
    return [
        cut if (number + kind) % EVERY == 0 else pytest.param(*_values(cut), marks=pytest.mark.exhaustive)
        for number, cut in enumerate(cuts)
    ]


def _values(cut: Any) -> tuple[Any, ...]:
    return cut if isinstance(cut, tuple) else (cut,)
