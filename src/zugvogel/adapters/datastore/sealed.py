"""Small files that tell whether they are whole: JSON, then a line with its SHA-256."""

from __future__ import annotations

import hashlib

_MARK = b"\n#sha256:"


def seal(body: bytes) -> bytes:
    """`body` with its checksum; readable by people."""
    return body + _MARK + hashlib.sha256(body).hexdigest().encode() + b"\n"


def unseal(data: bytes) -> bytes | None:
    """The body, or None for a torn or foreign file. NUL padding at the end is ignored."""
    body, mark, rest = data.rstrip(b"\0").rpartition(_MARK)
    if not mark or rest.strip() != hashlib.sha256(body).hexdigest().encode():
        return None
    return body
