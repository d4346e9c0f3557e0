"""How long things take in a simulated world: drawn once from a seed, then dealt like cards."""

from __future__ import annotations

import random


class Delays:
    """Seconds. `share` of them are `low_s` to `high_s`, one in 500 is ten times that, the rest are 0: it is done
    before anybody else gets a turn."""

    __slots__ = ("_cards", "_next")

    CARDS = 2003

    def __init__(self, rng: random.Random, low_s: float, high_s: float, share: float = 1.0) -> None:
        self._cards = [self._draw(rng, low_s, high_s, share) for _ in range(self.CARDS)]
        self._next = rng.randrange(self.CARDS)

    @staticmethod
    def _draw(rng: random.Random, low_s: float, high_s: float, share: float) -> float:
        if rng.random() < 0.002:
            return 10 * rng.uniform(low_s, high_s)
        return rng.uniform(low_s, high_s) if rng.random() < share else 0.0

    def next(self) -> float:
        at = self._next = (self._next + 1) % self.CARDS
        return self._cards[at]
