from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys

import pytest

from zugvogel.agent.logs import JsonLines, PlainLines, is_no_cut_request, set_up
from zugvogel.errors import InvalidInput

SCRIPT = """
import logging
from zugvogel.agent.logs import set_up
set_up("info")
logging.getLogger("zugvogel.services.tasks").warning("web1 cannot move:\\n  L4: no avx2\\n")
logging.getLogger("zugvogel.services.tasks").debug("not said")
for name in ("httpx", "uvicorn.error", "websockets.server"):
    logging.getLogger(name).info("not said")
logging.getLogger("qemu.qmp.protocol").error("Task.Reader: ConnectionResetError")
logging.getLogger("uvicorn.error").error("Cancel 1 running task(s), timeout graceful shutdown exceeded")
"""


def record(text: str, error: BaseException | None = None) -> logging.LogRecord:
    exc_info = (type(error), error, None) if error is not None else None
    found = logging.LogRecord("zugvogel.services.tasks", logging.ERROR, "", 0, text, (), exc_info)
    found.created, found.msecs = 0.25, 250.0
    return found


def test_only_what_matters_is_told_and_each_on_one_line() -> None:
    told = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert told.stdout == ""
    (line,) = told.stderr.splitlines()
    assert line.endswith("Z WARNING tasks: web1 cannot move: | L4: no avx2")


def test_instants_are_utc_with_milliseconds() -> None:
    assert PlainLines().format(record("a\nb")) == "1970-01-01T00:00:00.250Z ERROR tasks: a | b"


def test_a_defect_keeps_its_traceback() -> None:
    told = PlainLines().format(record("a defect", KeyError("x"))).splitlines()
    assert told == ["1970-01-01T00:00:00.250Z ERROR tasks: a defect", "KeyError: 'x'"]


def test_a_request_that_a_stopping_server_cut_off_is_no_error() -> None:
    assert not is_no_cut_request(record("Exception in ASGI application\n", asyncio.CancelledError()))
    assert is_no_cut_request(record("Exception in ASGI application\n", KeyError("x")))


def test_a_level_that_there_is_not_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no level"):
        set_up("loud")


JSON_SCRIPT = (
    SCRIPT.replace('set_up("info")', 'set_up("info", "JSON")')
    + """
from zugvogel.agent.logs import tell_host
tell_host("host1")
try:
    raise KeyError("x")
except KeyError:
    logging.getLogger("zugvogel.services.tasks").exception("a defect")
"""
)


def test_as_json_the_same_is_told_an_object_a_line() -> None:
    told = subprocess.run([sys.executable, "-c", JSON_SCRIPT], capture_output=True, text=True, check=True)
    first, second = map(json.loads, told.stderr.splitlines())
    assert first.pop("at").endswith("Z")
    assert first == {"level": "WARNING", "place": "tasks", "message": "web1 cannot move:\n  L4: no avx2\n"}
    assert (second["host"], second["level"], second["message"]) == ("host1", "ERROR", "a defect")
    assert second["exception"].startswith("Traceback (most recent call last):\n")
    assert second["exception"].endswith("KeyError: 'x'")


@pytest.mark.parametrize(
    "text", ["a\nb", 'he said "no"', "\u2028", "ä \U0001f426", "\ud800", "\x00\x1b[31m", "nan"]
)
def test_whatever_is_told_is_one_line_of_json(text: str) -> None:
    line = JsonLines().format(record(text))
    assert line.isascii()
    assert len(line.splitlines()) == 1
    at = "1970-01-01T00:00:00.250Z"
    assert json.loads(line) == {"at": at, "level": "ERROR", "place": "tasks", "message": text}


def test_a_format_that_there_is_not_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no format"):
        set_up("info", "xml")
