"""The loop every periodic service runs in."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from zugvogel.errors import ZugvogelError
from zugvogel.ports.clock import Clock

log = logging.getLogger(__name__)


async def run_every(
    clock: Clock, interval_s: Callable[[], float], tick: Callable[[], Awaitable[None]], what: str
) -> None:
    """Run `tick` every `interval_s()` until cancelled. A failing tick never ends the loop; the same cause
    in a row is logged once, its end too; with a traceback only where it is a defect."""
    failure = ""
    while True:
        started = clock.monotonic()
        try:
            await tick()
            if failure:
                log.info("%s: works again", what)
            failure = ""
        except ZugvogelError as error:
            if str(error) != failure:
                log.warning("%s: %s", what, error)
            failure = str(error)
        except Exception as error:
            cause = f"{type(error).__name__}: {error}"
            if cause != failure:
                log.error("%s: %s", what, cause, exc_info=True)
            failure = cause
        await clock.sleep(max(0.0, interval_s() - (clock.monotonic() - started)))
