from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from zugvogel.console.config import ConsoleConfig

GIVEN = {"host": "host1", "address": "127.0.0.1", "port": 7445, "api_urls": ["https://h:7440"], "token": "s3cret"}


def test_a_certificate_makes_it_secure() -> None:
    assert not ConsoleConfig.model_validate(GIVEN).is_secure
    assert ConsoleConfig.model_validate({**GIVEN, "certificate": "c.pem", "key": "k.pem"}).is_secure


@pytest.mark.parametrize(
    "wrong", [{"port": "https"}, {"api_urls": "https://h"}, {"colour": "red"}, {"token": None}]
)
def test_what_is_wrong_is_told_without_the_token(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as told:
        ConsoleConfig.model_validate_json(json.dumps({**GIVEN, **wrong}))
    assert next(iter(wrong)) in str(told.value)
    assert "s3cret" not in str(told.value)
