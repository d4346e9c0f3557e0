from hypothesis import given
from hypothesis import strategies as st

from zugvogel.core.hearing import ROOM_BYTES, fits, told

names = st.lists(st.text("abc", min_size=1, max_size=63), max_size=200, unique=True)


def test_of_64_hosts_all_fit_with_names_of_usual_length() -> None:
    heard = tuple(f"hypervisor-rack{i // 8}-{i:03}" for i in range(64))
    assert fits(heard)
    assert told(heard, set(heard)) == heard


def test_those_whose_beats_do_not_move_come_first() -> None:
    heard = [f"host{i:03}" for i in range(500)]
    kept = told(heard, {name for name in heard if name not in {"host007", "host499"}})
    assert {"host007", "host499"} < set(kept)
    assert not fits(heard)
    assert fits(kept)


@given(names, st.sets(st.text("abc", min_size=1, max_size=2)))
def test_never_more_than_fits_and_nobody_that_was_not_heard(heard: list[str], moving: set[str]) -> None:
    kept = told(heard, moving)
    assert sum(len(name) + 3 for name in kept) <= ROOM_BYTES
    assert set(kept) <= set(heard)
    assert list(kept) == sorted(kept)
    assert not fits(heard) or set(kept) == set(heard)
