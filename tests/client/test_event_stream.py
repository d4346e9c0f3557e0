from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zugvogel.client.event_stream import EventStream

TOLD = (
    b": alive\n\n"
    b'event: vms\r\ndata: {"whole": true,\r\ndata: "changed": {}}\r\n\r\n'
    b"id: 7\nretry: 10\n\n"
    b'data: "line\\u2028 \xe2\x80\xa8 inside"\n\n'
    b"event: ready\ndata:{}\n\n"
    b"event: unfinished\ndata: {}\n"
)
MEANT = [("vms", {"whole": True, "changed": {}}), ("message", "line\u2028 \u2028 inside"), ("ready", {})]


def read(*chunks: bytes) -> list[tuple[str, Any]]:
    stream = EventStream()
    return [event for chunk in chunks for event in stream.feed(chunk)]


@given(st.lists(st.integers(0, len(TOLD)), max_size=12))
def test_events_are_the_same_however_they_are_cut(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(TOLD)]
    assert read(*(TOLD[a:b] for a, b in pairwise(edges))) == MEANT


def test_an_event_without_data_is_none_and_its_name_is_forgotten() -> None:
    assert read(b"event: hosts\n\ndata: 1\n\n") == [("message", 1)]


def test_data_that_is_no_json() -> None:
    with pytest.raises(ValueError, match="Expecting"):
        read(b"data: {\n\n")
