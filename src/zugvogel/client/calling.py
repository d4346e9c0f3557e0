"""From typed values to plain JSON and back."""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, TypeAdapter, ValidationError

from zugvogel import errors

T = TypeVar("T")


def filled(path: str, values: tuple[str, ...]) -> str:
    """`path` with its parts in braces replaced in order, each as one part of a path whatever it holds."""
    for value in values:
        before, _, rest = path.partition("{")
        path = before + quote(value, safe="") + rest.partition("}")[2]
    return path


def dumped(body: BaseModel | None) -> Any:
    """Only what was said: the agent fills in what it takes for granted, be it older or newer than this client."""
    return None if body is None else body.model_dump(mode="json", exclude_unset=True)


def parsed(answer: type[T], told: Any) -> T:
    """Fields that this version does not know are passed over. Raises ZugvogelError for an answer that is none."""
    kind: Any = answer
    try:
        known: T = _adapter(kind).validate_python(told, extra="ignore")
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise errors.ZugvogelError(
            f"the agent's answer is not understood: {place or 'all of it'}: {first['msg']}",
            "have this client and the agents the same version?",
        ) from None
    return known


@cache
def _adapter(answer: Any) -> TypeAdapter[Any]:
    return TypeAdapter(answer)
