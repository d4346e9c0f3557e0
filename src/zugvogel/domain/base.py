"""What every stored or sent value has in common: frozen, typed, JSON in and out."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

HOST_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
NAME_PATTERN = r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$"

HostName = Annotated[str, StringConstraints(pattern=HOST_PATTERN)]
"""A DNS label in lower case. Safe as a file name and as an argument."""
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
"""Name of a vm, datastore or network: lower case letters, digits and ``. _ -`` inside, at most 63
characters, never starting or ending with a sign. Safe as a file name and as an argument."""
Mac = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{2}:){5}[0-9a-f]{2}$")]


class Model(BaseModel):
    """A value. Unknown fields are ignored, so that a newer agent can talk to an older one."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class StrictModel(BaseModel):
    """A value people write by hand: unknown fields are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")
