"""Why a host is judged as it is, or a vm runs, waits or stays down: asked now and then, beside the watch."""

from __future__ import annotations

from typing import Literal

from zugvogel.console.mirror import Fields
from zugvogel.console.page import Look
from zugvogel.errors import SessionEnded, ZugvogelError


async def explained(look: Look, subject: str, kind: Literal["host", "vm"]) -> Fields:
    """An `Explanation`, and as `trouble` why there is none."""
    try:
        found = await look.api.request("GET", f"/ha/explain/{subject}", params={"kind": kind})
    except SessionEnded:
        raise
    except ZugvogelError as error:
        return {"trouble": error.cause, "judgement": "", "judge": "", "evidence": [], "follows": ""}
    return {"trouble": "", **found}
