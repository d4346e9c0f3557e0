"""What all values have in common."""

import pytest
from pydantic import ValidationError

from zugvogel.domain.base import Model


class Value(Model):
    name: str
    number: int = 0


def test_replaced_is_a_model_copy() -> None:
    before = Value(name="a")
    after = before.replaced(number=2)
    copied = before.model_copy(update={"number": 2})
    assert after == copied
    assert after.model_dump_json() == copied.model_dump_json()
    assert after.model_fields_set == copied.model_fields_set == {"name", "number"}
    assert before == Value(name="a")
    with pytest.raises(ValidationError):
        after.number = 3  # type: ignore[misc]
