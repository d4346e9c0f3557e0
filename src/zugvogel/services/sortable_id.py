"""Short ids that sort by time: 10 signs of Unix milliseconds, 4 by chance (Crockford's base 32).

Safe as a file name and as a registry key. Ids of one `SortableIds` never go backwards, even if the wall
clock does; between hosts they sort as well as the hosts' clocks agree. Nothing is decided by them.
"""

from __future__ import annotations

import secrets
from datetime import datetime

from zugvogel.ports.clock import Clock

_SIGNS = "0123456789abcdefghjkmnpqrstvwxyz"
TIME_SIGNS = 10
BUCKET_SIGNS = 6
"""First signs of an id that name a span of 2^20 ms, about 17 minutes."""
MAX_BUCKETS = 4


def encode(number: int, length: int) -> str:
    text = ""
    for _ in range(length):
        number, digit = divmod(number, 32)
        text = _SIGNS[digit] + text
    return text


def decode(text: str) -> int:
    """Raises ValueError for signs that no id has."""
    number = 0
    for sign in text:
        number = number * 32 + _SIGNS.index(sign)
    return number


def buckets(after: str, now_ms: int) -> tuple[str, ...]:
    """Prefixes that all ids from `after` to now have (and one more, for clocks that are ahead); one that all ids
    have, where that would be too many."""
    try:
        first = decode(after[:BUCKET_SIGNS]) if len(after) >= BUCKET_SIGNS else 0
    except ValueError:
        first = 0
    last = now_ms // 32 ** (TIME_SIGNS - BUCKET_SIGNS) + 1
    if last - first >= MAX_BUCKETS:
        return ("",)
    return tuple(encode(bucket, BUCKET_SIGNS) for bucket in range(first, last + 1))


class SortableIds:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last_ms = 0

    def now_ms(self) -> int:
        return int(datetime.fromisoformat(self._clock.now_iso()).timestamp() * 1000)

    def next(self) -> str:
        self._last_ms = max(self.now_ms(), self._last_ms + 1)
        return encode(self._last_ms, TIME_SIGNS) + encode(secrets.randbits(20), 4)
