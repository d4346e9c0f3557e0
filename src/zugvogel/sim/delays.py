"""How long things take in a simulated world: drawn once from a seed, then dealt like cards."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable


class Delays:
    """Seconds. `share` of them are `low_s` to `high_s`, one in 500 is ten times that, the rest are 0: it is done
    before anybody else gets a turn."""

    __slots__ = ("next",)

    CARDS = 2003

    def __init__(self, rng: random.Random, low_s: float, high_s: float, share: float = 1.0) -> None:
        cards = [self._draw(rng, low_s, high_s, share) for _ in range(self.CARDS)]
        first = rng.randrange(self.CARDS) + 1
        self.next: Callable[[], float] = itertools.cycle(cards[first:] + cards[:first]).__next__

    @staticmethod
    def _draw(rng: random.Random, low_s: float, high_s: float, share: float) -> float:
        if rng.random() < 0.002:
            return 10 * rng.uniform(low_s, high_s)
        return rng.uniform(low_s, high_s) if rng.random() < share else 0.0
