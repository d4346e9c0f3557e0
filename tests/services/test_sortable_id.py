from __future__ import annotations

from zugvogel.services.sortable_id import BUCKET_SIGNS, MAX_BUCKETS, buckets, encode

NOW_MS = 1_700_000_000_000
WIDTH_MS = 2**20


def test_every_id_since_then_has_one_of_the_prefixes() -> None:
    after = encode(NOW_MS - WIDTH_MS, 10)
    found = buckets(after, NOW_MS)
    assert len(found) <= MAX_BUCKETS
    for ms in range(NOW_MS - WIDTH_MS, NOW_MS + WIDTH_MS, 10_000):
        assert encode(ms, 10)[:BUCKET_SIGNS] in found


def test_a_long_time_ago_and_what_is_no_id_ask_for_all() -> None:
    assert buckets("", NOW_MS) == ("",)
    assert buckets("U!", NOW_MS) == ("",)
    assert buckets("UUUUUUUUUU", NOW_MS) == ("",)
    assert buckets(encode(NOW_MS - 10 * WIDTH_MS, 10), NOW_MS) == ("",)
