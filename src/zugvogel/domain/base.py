"""What every stored or sent value has in common: frozen, typed, JSON in and out."""

from __future__ import annotations

import re
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError
from pydantic_core.core_schema import no_info_after_validator_function

HOST_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
NAME_PATTERN = r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$"
_MAC_SAYS = "a MAC looks like 52:54:00:12:34:56"


class _Shaped:
    """A string that matches `pattern` as a whole; `says` tells people what is allowed."""

    def __init__(self, pattern: str, says: str) -> None:
        self._pattern, self._shape, self._says = pattern, re.compile(pattern), says

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "pattern": f"^({self._pattern.removeprefix('^').removesuffix('$')})$"}

    def _check(self, value: str) -> str:
        if not self._shape.fullmatch(value):
            raise PydanticCustomError("shape", self._says)
        return value


HostName = Annotated[
    str,
    _Shaped(
        HOST_PATTERN,
        "a host's name has lower case letters, digits and - inside, at most 63 characters",
    ),
]
"""A DNS label in lower case. Safe as a file name and as an argument."""
Name = Annotated[
    str,
    _Shaped(
        NAME_PATTERN,
        "a name has lower case letters, digits and . _ - inside, at most 63 characters",
    ),
]
"""Name of a vm, datastore or network: lower case letters, digits and ``. _ -`` inside, at most 63
characters, never starting or ending with a sign. Safe as a file name and as an argument."""
NameOrNone = Annotated[
    str,
    _Shaped(
        r"([a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?)?",
        "a name has lower case letters, digits and . _ - inside, at most 63 characters; empty: none",
    ),
]
FenceAgent = Annotated[str, _Shaped(r"fence_[a-z0-9_]{1,40}", "a fence agent's name looks like fence_ipmilan")]
"""A program of the distribution's fence-agents. Safe as a file name."""
Mac = Annotated[str, _Shaped(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", _MAC_SAYS)]
MacOrNone = Annotated[str, _Shaped(r"(([0-9a-f]{2}:){5}[0-9a-f]{2})?", _MAC_SAYS)]
"""Empty: none is asked for."""


_put_values = BaseModel.__dict__["__dict__"].__set__
_put_fields_set = BaseModel.__dict__["__pydantic_fields_set__"].__set__
_put_extra = BaseModel.__dict__["__pydantic_extra__"].__set__
_put_private = BaseModel.__dict__["__pydantic_private__"].__set__
"""Past `frozen`: of a value that nobody has yet."""


class Model(BaseModel):
    """A value. Unknown fields are ignored, so that a newer agent can talk to an older one."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    def replaced(self, **fields: Any) -> Self:
        """As `model_copy`, several times as fast: for what is made anew many times a second. Not validated."""
        values, were_set = self.__dict__, self.__pydantic_fields_set__
        made = self.__class__.__new__(self.__class__)
        _put_values(made, {**values, **fields})
        _put_fields_set(made, were_set if len(were_set) == len(values) else were_set.union(fields))
        _put_extra(made, None)
        _put_private(made, None)
        return made


class StrictModel(BaseModel):
    """A value people write by hand: unknown fields are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")
