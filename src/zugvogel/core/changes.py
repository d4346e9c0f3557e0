"""What changed between two looks at a set of named things, so that watchers are told that alone.

A thing is a mapping of fields to JSON values. All looks at one thing carry the same fields or more, so that a
shallow merge of what changed gives the later look: a field whose value changed is told as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Delta:
    """`changed`: key -> the fields that changed, all of them where the key is new. `gone`: keys that are no more,
    sorted. `is_whole`: it holds everything, and what was known before is void."""

    changed: Mapping[str, Fields] = field(default_factory=dict)
    gone: tuple[str, ...] = ()
    is_whole: bool = False

    def __bool__(self) -> bool:
        """Whether there is anything to tell."""
        return self.is_whole or bool(self.changed or self.gone)


def changed_fields(before: Fields | None, after: Fields) -> Fields:
    """Of one thing; all fields where it was not known before."""
    if before is None:
        return after
    return {name: value for name, value in after.items() if name not in before or not is_same(before[name], value)}


def is_same(one: Any, other: Any) -> bool:
    """As JSON: True is not 1 there. (1 and 1.0 are the same number.)"""
    if one is other or one != other:
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return all(is_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return all(map(is_same, one, other))
    return isinstance(one, bool) == isinstance(other, bool)


def delta(before: Mapping[str, Fields] | None, after: Mapping[str, Fields]) -> Delta:
    """From `before` to `after`; all of `after` where nothing was known before."""
    if before is None:
        return Delta(changed=dict(after), is_whole=True)
    changed = {}
    for key, fields in after.items():
        known = before.get(key)
        told = changed_fields(known, fields)
        if told or known is None:
            changed[key] = told
    return Delta(changed=changed, gone=tuple(sorted(before.keys() - after.keys())))


def merged(before: Mapping[str, Fields], change: Delta) -> dict[str, Fields]:
    """`before` with `change` applied: what a watcher does."""
    kept = {} if change.is_whole else {key: fields for key, fields in before.items() if key not in change.gone}
    return kept | {key: {**kept.get(key, {}), **fields} for key, fields in change.changed.items()}
