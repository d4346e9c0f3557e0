"""The agent's log: one line an event, level first, on standard error (the journal, under systemd).

A traceback means a defect of the agent. What may be expected (a peer away, a datastore that hangs) is one line
with its cause.
"""

from __future__ import annotations

import asyncio
import logging
import time

from zugvogel.errors import InvalidInput

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
QUIET = {
    "httpx": logging.WARNING,
    "httpcore": logging.WARNING,
    "uvicorn": logging.WARNING,
    "websockets": logging.WARNING,
    # It calls every end of a QEMU an error; the agent tells of each itself.
    "qemu.qmp": logging.CRITICAL,
}
"""Libraries that tell each step of theirs, and from which level on they are heard."""


class PlainLines(logging.Formatter):
    """``2026-01-31T12:00:00.123Z INFO tasks: text``; line breaks within the text become `` | ``."""

    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(place)s: %(message)s")
        self.converter = time.gmtime

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the standard library's name
        record.message = " | ".join(line.strip() for line in record.message.splitlines() if line.strip())
        record.place = record.name.rpartition(".")[2] if record.name.startswith("zugvogel.") else record.name
        return super().formatMessage(record)


def is_no_cut_request(record: logging.LogRecord) -> bool:
    """False for requests that a stopping server cut off: uvicorn calls that an exception of the application."""
    is_cut = record.exc_info is not None and isinstance(record.exc_info[1], asyncio.CancelledError)
    return not is_cut and "timeout graceful shutdown exceeded" not in record.getMessage()


def set_up(level: str) -> None:
    """Raises InvalidInput for a level that there is not."""
    if level.upper() not in LEVELS:
        raise InvalidInput(f"ZUGVOGEL_LOG is {level!r}, which is no level", f"levels are: {', '.join(LEVELS)}")
    handler = logging.StreamHandler()
    handler.setFormatter(PlainLines())
    handler.addFilter(is_no_cut_request)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    if level.upper() != "DEBUG":
        for name, heard in QUIET.items():
            logging.getLogger(name).setLevel(heard)
