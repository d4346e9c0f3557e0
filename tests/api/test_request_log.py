from __future__ import annotations

import asyncio
import logging
import re

import httpx
import pytest

from tests.api.conftest import bearer
from zugvogel.api.request_log import RequestLog

LOGGER = "zugvogel.api.request_log"


async def test_at_debug_each_request_is_a_line_without_its_query(
    http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, LOGGER)
    await http.get("/events?vm=secret", headers=bearer("viewer"))
    await http.get("/vms/nope", headers=bearer("viewer"))
    lines = [r.getMessage() for r in caplog.records if r.name == LOGGER]
    assert len(lines) == 2
    assert re.fullmatch(r"127\.0\.0\.1 GET /api/v1/events 200 \d+\.\d ms", lines[0])
    assert " GET /api/v1/vms/nope 404 " in lines[1]
    assert "secret" not in caplog.text
    assert "viewer-token" not in caplog.text


async def test_otherwise_nothing_is_said(http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    await http.get("/vms", headers=bearer("viewer"))
    assert [r for r in caplog.records if r.name == LOGGER] == []


async def test_a_request_that_was_cut_off_and_a_websocket_are_told_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, LOGGER)

    async def app(scope: object, receive: object, send: object) -> None:
        assert isinstance(scope, dict)
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})  # type: ignore[operator]
            return
        raise asyncio.CancelledError

    async def send(message: object) -> None: ...

    logged = RequestLog(app)
    await logged({"type": "websocket", "path": "/console"}, send, send)  # type: ignore[arg-type]
    with pytest.raises(asyncio.CancelledError):
        await logged({"type": "http", "method": "GET", "path": "/watch"}, send, send)  # type: ignore[arg-type]
    first, second = (r.getMessage() for r in caplog.records)
    assert " WEBSOCKET /console 101 " in first
    assert " GET /watch 499 " in second
