"""Every error leaves as ``{"error": {"code", "cause", "next_step"}}`` with the status of its class."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from zugvogel.errors import InvalidInput, TooManyRequests, ZugvogelError

log = logging.getLogger(__name__)


class ErrorBody(BaseModel):
    code: str
    cause: str
    next_step: str = ""


class ErrorAnswer(BaseModel):
    error: ErrorBody


def answer(
    status: int, code: str, cause: str, next_step: str = "", headers: dict[str, str] | None = None
) -> JSONResponse:
    body = ErrorAnswer(error=ErrorBody(code=code, cause=cause, next_step=next_step))
    return JSONResponse(body.model_dump(), status_code=status, headers=headers)


def answer_for(error: ZugvogelError) -> JSONResponse:
    headers = {"Retry-After": str(error.retry_after_s)} if isinstance(error, TooManyRequests) else None
    return answer(error.http_status, error.code, error.cause, error.next_step, headers)


def _place(loc: Sequence[str | int]) -> str:
    """Of a parameter its name alone: which of several values it is nobody has numbered."""
    parts = loc[:2] if loc and loc[0] in ("query", "path") else loc
    return ".".join(str(part) for part in parts if part not in ("body", "query", "path"))


def plain_cause(errors: Sequence[Any]) -> str:
    """All findings of pydantic in one line: where and what, without the input itself."""
    told = []
    for error in errors:
        place = _place(error["loc"])
        text = str(error["msg"])
        least = error.get("ctx", {}).get("ge")
        if least is not None:
            is_size = place.endswith("_bytes")
            place = place.removesuffix("_bytes")
            text = f"at least {least >> 20} MiB" if is_size else f"at least {least}"
        text = text[:1].lower() + text[1:]
        told.append(f"{place}: {text}" if place else text)
    return "; ".join(told) or "the request cannot be understood"


def install(app: FastAPI) -> None:
    @app.exception_handler(ZugvogelError)
    async def zugvogel_error(request: Request, error: ZugvogelError) -> JSONResponse:
        return answer_for(error)

    @app.exception_handler(RequestValidationError)
    async def bad_request(request: Request, error: RequestValidationError) -> JSONResponse:
        return answer_for(InvalidInput(plain_cause(error.errors())))

    @app.exception_handler(ValidationError)
    async def bad_value(request: Request, error: ValidationError) -> JSONResponse:
        log.warning("a value failed late at %s: %s", request.url.path, error)
        return answer_for(InvalidInput(plain_cause(error.errors(include_input=False, include_url=False))))

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == 404:
            return answer(404, "not-found", f"the API has no {request.url.path}", "see /api/v1/openapi.json")
        if error.status_code == 400:
            return answer_for(InvalidInput("the body cannot be read: it is no JSON in UTF-8"))
        code = "invalid-input" if error.status_code < 500 else "failed"
        return answer(error.status_code, code, str(error.detail).lower())

    @app.exception_handler(Exception)
    async def defect(request: Request, error: Exception) -> JSONResponse:
        log.exception("defect at %s %s", request.method, request.url.path, exc_info=error)
        cause = f"the agent has a defect: {type(error).__name__}"
        return answer(500, "failed", cause, "see the agent's log and report it")
