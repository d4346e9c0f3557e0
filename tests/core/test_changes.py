from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zugvogel.core.changes import Delta, changed_fields, delta, is_same, merged

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-2, 2, allow_nan=False) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=3),
    max_leaves=5,
)
THING = st.fixed_dictionaries({"state": VALUES, "host": VALUES, "epoch": VALUES})
LOOK = st.dictionaries(st.sampled_from(["vm1", "vm2", "vm3", "vm4"]), THING)


def as_json(look: Any) -> str:
    """0.0 and 0 are the same number in JSON, and -0.0 is neither more nor less."""

    def plain(value: Any) -> Any:
        if isinstance(value, float):
            return int(value) if value.is_integer() else value
        if isinstance(value, dict):
            return {key: plain(inner) for key, inner in value.items()}
        return [plain(inner) for inner in value] if isinstance(value, list) else value

    return json.dumps(plain(look), sort_keys=True)


@given(st.lists(LOOK, min_size=1, max_size=6))
def test_a_watcher_that_merges_each_change_has_the_last_look(looks: list[dict[str, Any]]) -> None:
    known: dict[str, Any] | None = None
    seen: dict[str, Any] = {}
    for look in looks:
        seen = dict(merged(seen, delta(known, look)))
        known = look
    assert as_json(seen) == as_json(looks[-1])


@given(LOOK, LOOK)
def test_nothing_is_told_that_did_not_change(before: dict[str, Any], after: dict[str, Any]) -> None:
    told = delta(before, after)
    for key, fields in told.changed.items():
        if key in before:
            assert fields
            assert all(as_json(before[key][name]) != as_json(value) for name, value in fields.items())
    assert set(told.gone) == set(before) - set(after)
    assert bool(told) == (as_json(before) != as_json(after))


@given(LOOK)
def test_the_same_look_again_tells_nothing(look: dict[str, Any]) -> None:
    assert not delta(look, json.loads(json.dumps(look)))


@given(LOOK, LOOK)
def test_a_whole_makes_what_was_known_void(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert as_json(merged(before, delta(None, after))) == as_json(after)


def test_a_whole_of_nothing_is_told() -> None:
    assert delta(None, {}) == Delta(is_whole=True)
    assert delta(None, {})
    assert not delta({}, {})


def test_known_keys_tell_the_fields_that_changed_and_new_keys_all() -> None:
    before: dict[str, Any] = {
        "web1": {"state": "running", "host": "host1"},
        "web2": {"state": "stopped", "host": None},
    }
    after: dict[str, Any] = {
        "web1": {"state": "running", "host": "host2"},
        "web3": {"state": "stopped", "host": None},
    }
    told = delta(before, after)
    assert told == Delta(changed={"web1": {"host": "host2"}, "web3": after["web3"]}, gone=("web2",))


def test_a_new_thing_without_fields_is_told_too() -> None:
    assert delta({}, {"web1": {}}) == Delta(changed={"web1": {}})


def test_a_field_that_a_newer_agent_adds_is_told() -> None:
    assert changed_fields({"state": "running"}, {"state": "running", "display": "vga"}) == {"display": "vga"}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (True, 1, False),
        (False, 0, False),
        (1, 1.0, True),
        ([True], [1], False),
        ({"a": True}, {"a": 1}, False),
        ({"a": [1, {"b": None}]}, {"a": [1, {"b": None}]}, True),
        ([1, 2], [1], False),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        (None, False, False),
        ("", None, False),
    ],
)
def test_values_are_compared_as_json(one: Any, other: Any, same: bool) -> None:
    assert is_same(one, other) is same
    assert is_same(other, one) is same
