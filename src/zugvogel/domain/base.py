"""What every stored or sent value has in common: frozen, typed, JSON in and out."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict
from pydantic_core import PydanticCustomError

HOST_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
NAME_PATTERN = r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$"
_MAC_SAYS = "a MAC looks like 52:54:00:12:34:56"


def _shaped(pattern: str, says: str) -> AfterValidator:
    """A string that matches `pattern` as a whole; `says` tells people what is allowed."""
    shape = re.compile(pattern)

    def check(value: str) -> str:
        if not shape.fullmatch(value):
            raise PydanticCustomError("shape", says)
        return value

    return AfterValidator(check)


HostName = Annotated[
    str,
    _shaped(
        HOST_PATTERN,
        "a host's name has lower case letters, digits and - inside, at most 63 characters",
    ),
]
"""A DNS label in lower case. Safe as a file name and as an argument."""
Name = Annotated[
    str,
    _shaped(
        NAME_PATTERN,
        "a name has lower case letters, digits and . _ - inside, at most 63 characters",
    ),
]
"""Name of a vm, datastore or network: lower case letters, digits and ``. _ -`` inside, at most 63
characters, never starting or ending with a sign. Safe as a file name and as an argument."""
NameOrNone = Annotated[
    str,
    _shaped(
        r"([a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?)?",
        "a name has lower case letters, digits and . _ - inside, at most 63 characters; empty: none",
    ),
]
FenceAgent = Annotated[str, _shaped(r"fence_[a-z0-9_]{1,40}", "a fence agent's name looks like fence_ipmilan")]
"""A program of the distribution's fence-agents. Safe as a file name."""
Mac = Annotated[str, _shaped(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", _MAC_SAYS)]
MacOrNone = Annotated[str, _shaped(r"(([0-9a-f]{2}:){5}[0-9a-f]{2})?", _MAC_SAYS)]
"""Empty: none is asked for."""


class Model(BaseModel):
    """A value. Unknown fields are ignored, so that a newer agent can talk to an older one."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class StrictModel(BaseModel):
    """A value people write by hand: unknown fields are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")
