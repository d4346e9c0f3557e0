"""The agent's log: one line an event, on standard error (the journal, under systemd): plain, or as JSON.

A traceback means a defect of the agent. What may be expected (a peer away, a datastore that hangs) is one line
with its cause.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time

from zugvogel.errors import InvalidInput

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
PLAIN, JSON = "plain", "json"
FORMATS = (PLAIN, JSON)
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
        record.place = _place(record)
        return super().formatMessage(record)


class JsonLines(PlainLines):
    """One object (RFC 8259, ASCII) a line: `at`, `level`, `place`, `message`, `host` once it is known, and of a
    defect `exception` with its traceback. Line breaks stay within the texts."""

    host = ""

    def format(self, record: logging.LogRecord) -> str:
        told = {
            "at": self.formatTime(record),
            "level": record.levelname,
            "place": _place(record),
            "message": record.getMessage(),
        }
        if self.host:
            told["host"] = self.host
        if exception := self._exception(record):
            told["exception"] = exception
        return json.dumps(told)

    def _exception(self, record: logging.LogRecord) -> str:
        trace = self.formatException(record.exc_info) if record.exc_info else record.exc_text or ""
        return "\n".join(filter(None, (trace, record.stack_info)))


def _place(record: logging.LogRecord) -> str:
    return record.name.rpartition(".")[2] if record.name.startswith("zugvogel.") else record.name


def is_no_cut_request(record: logging.LogRecord) -> bool:
    """False for requests that a stopping server cut off: uvicorn calls that an exception of the application."""
    is_cut = isinstance((record.exc_info or (None, None))[1], asyncio.CancelledError)
    return not is_cut and "timeout graceful shutdown exceeded" not in record.getMessage()


def set_up(level: str, form: str = PLAIN) -> None:
    """Raises InvalidInput for a level or a format that there is not."""
    if level.upper() not in LEVELS:
        raise InvalidInput(f"ZUGVOGEL_LOG is {level!r}, which is no level", f"levels are: {', '.join(LEVELS)}")
    if form.lower() not in FORMATS:
        told = f"ZUGVOGEL_LOG_FORMAT is {form!r}, which is no format"
        raise InvalidInput(told, f"formats are: {', '.join(FORMATS)}")
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if form.lower() == JSON else PlainLines())
    handler.addFilter(is_no_cut_request)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    if level.upper() != "DEBUG":
        for name, heard in QUIET.items():
            logging.getLogger(name).setLevel(heard)


def tell_host(name: str) -> None:
    """Lines of JSON name their host from here on."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, JsonLines):
            handler.formatter.host = name
