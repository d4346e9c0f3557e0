"""vm.toml: the wanted definition as people read and edit it."""

from __future__ import annotations

import re
import tomllib

import tomli_w
from pydantic import ValidationError

from zugvogel.domain.vm import VmDefinition
from zugvogel.errors import InvalidInput

FILE = "vm.toml"
_HEADER = """\
# The virtual machine {name}, as Zugvogel starts it. Sizes are in bytes.
# Edit it while the vm is stopped, or use `zv vm set {name}`; a running vm changes at its next start.

"""
_FIX = "correct it and try again"


def write(definition: VmDefinition) -> bytes:
    text = tomli_w.dumps(definition.model_dump(mode="json", exclude_none=True))
    return (_HEADER.format(name=definition.name) + text).encode()


def read(data: bytes, vm: str) -> VmDefinition:
    """Raises `InvalidInput` naming the line that is wrong."""
    try:
        text = data.decode()
        definition = VmDefinition.model_validate(tomllib.loads(text))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidInput(f"{FILE} of {vm} is no TOML: {error}", _FIX) from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        line = _line_of(text, first["loc"])
        at = f", line {line}" if line else ""
        raise InvalidInput(f"{FILE} of {vm}{at}: {place}: {first['msg']}", _FIX) from None
    if definition.name != vm:
        raise InvalidInput(
            f"{FILE}, line {_line_of(text, ('name',))}, says {definition.name} but lies in the folder of {vm}",
            _FIX,
        )
    return definition


def _line_of(text: str, place: tuple[int | str, ...]) -> int:
    """Line of the key at `place`, of its table where the key is missing, 0 where neither is found."""
    at = ""
    count: dict[str, int] = {}
    table_line = 0
    *tables, key = place if isinstance(place[-1], str) else (*place, "")
    wanted = ".".join(str(part) for part in tables)
    for number, line in enumerate(text.splitlines(), 1):
        if head := re.match(r"\s*\[(\[?)([\w.-]+)\]", line):
            name = head[2]
            if head[1]:
                index = count.get(name, -1) + 1
                count[name] = index
                name = f"{name}.{index}"
            at = name
            if at == wanted:
                table_line = number
        elif at == wanted and key and re.match(rf"\s*\"?{re.escape(str(key))}\"?\s*=", line):
            return number
    return table_line
