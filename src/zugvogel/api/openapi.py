"""The OpenAPI document: what FastAPI finds by itself, and what it cannot know."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from zugvogel.api.body_limit import MAX_BODY_BYTES
from zugvogel.api.errors import ErrorAnswer, ErrorBody
from zugvogel.errors import (
    Conflict,
    DeadlineExceeded,
    Forbidden,
    InvalidInput,
    NotFound,
    ProcedureFailed,
    StorageError,
    TooManyRequests,
    Unreachable,
    ZugvogelError,
)

ABOUT = """\
Live migration, quick migration and high availability for plain QEMU/KVM hosts. Every agent answers for the whole
cluster. Send `Authorization: Bearer <token>`: an API token, or that of a session. Work that takes long is answered
with a task (202), which `GET /tasks/{task_id}` follows. Errors have one form and a `code` that names their class.
Unknown fields of a request are errors; answers may get further fields.

Two WebSockets are not part of this document: `/api/v1/vms/{name}/console` (serial) and
`/api/v1/vms/{name}/display` (VNC), for operators, bytes both ways."""

TAGS = [
    {"name": "agent", "description": "The agent that is asked, for itself. No bearer is needed but for metrics."},
    {"name": "cluster", "description": "The cluster's own record, its CPU model, roles and registry."},
    {"name": "hosts", "description": "Hosts: verdicts, maintenance, joining, power fences."},
    {
        "name": "high availability",
        "description": "What is restarted after a failure, and why things are as they are.",
    },
    {"name": "vms", "description": "Virtual machines: life, definition, migration, logs."},
    {"name": "datastores", "description": "Shared file systems."},
    {"name": "networks", "description": "Virtual networks: bridges and VLANs of the hosts."},
    {"name": "tasks", "description": "Long work: followed, cancelled, and kept with its report."},
    {"name": "events", "description": "What was seen and done, with its evidence."},
    {"name": "watch", "description": "All that changes, as one stream."},
    {"name": "settings", "description": "Settings of the whole cluster."},
    {"name": "session", "description": "One's own session."},
    {"name": "users", "description": "Users who log in with a password."},
    {"name": "tokens", "description": "API tokens, for programs."},
]

_LOOK = "see `zv host list`"
FAILED = (
    ("It ended without its goal; the text says what state it left.", ProcedureFailed("web1 does not start")),
)
REFUSED: tuple[tuple[str, ZugvogelError], ...] = (
    ("There is no valid bearer, or its role does not allow it.", Forbidden("no token was given")),
    ("There is no such thing.", NotFound("there is no vm web9", "see `zv vm list`")),
    ("A rule forbids it now, the name is taken, or somebody else changed it first; nothing was touched.",
     Conflict("web1 was changed meanwhile", "read it again")),
    ("What was sent cannot be meant.", InvalidInput("memory: at least 16 MiB")),
    ("Too many attempts; `Retry-After` says when to come back.", TooManyRequests("too many failed logins")),
    ("A host did not answer: it may have been carried out.", Unreachable("host2 does not answer", _LOOK)),
    ("No answer in time: it may have been carried out.", DeadlineExceeded("host2 is busy", _LOOK)),
    ("The datastore answered with an error.", StorageError("san1 is full")),
)  # fmt: skip
"""Of all operations but those that take nothing and need no bearer."""
TOO_LARGE = (
    "The request is larger than 1 MiB.",
    InvalidInput(f"the request is larger than {MAX_BODY_BYTES} bytes"),
)
GOOD = {"200": "The answer.", "201": "It was made.", "202": "It was begun."}


EXAMPLES: dict[str, dict[str, Any]] = {
    "add_datastore": {"name": "san1", "path": "/srv/san1"},
    "add_network": {"name": "lan", "bridge": "br0", "vlan": 7},
    "create_vm": {
        "name": "web1",
        "memory_bytes": 2 << 30,
        "cpus": 2,
        "image": "debian13.qcow2",
        "networks": ["lan"],
    },
    "log_in": {"user": "ada", "password": "correct horse"},
    "maintain_host": {"is_on": True, "is_quick_fallback": True},
    "migrate_vm": {"target": "host2", "options": {"max_downtime_ms": 200}},
    "new_user": {"name": "ada", "access": "operator", "password": "correct horse"},
    "set_baseline": {"model": "auto"},
    "set_setting": {"value": 2},
    "start_vm": {"host": "host2"},
}
"""Bodies of requests."""


def operation_id(route: APIRoute) -> str:
    """The function's name, which is also that of the method of `zugvogel.client`."""
    return route.name


def install(app: FastAPI) -> None:
    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
        tags=app.openapi_tags,
    )
    parts = document["components"]
    for unused in ("HTTPValidationError", "ValidationError"):
        parts["schemas"].pop(unused, None)
    error = ErrorAnswer.model_json_schema(ref_template="#/components/schemas/{model}")
    parts["schemas"] |= error.pop("$defs") | {"ErrorAnswer": error}
    parts["responses"] = {str(e.http_status): _answer(text, e) for text, e in FAILED + REFUSED}
    parts["responses"]["413"] = _answer(*TOO_LARGE)
    parts["responses"]["429"]["headers"] = {
        "Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}
    }
    for operations in document["paths"].values():
        for operation in operations.values():
            _describe(operation)
    return document


def _describe(operation: dict[str, Any]) -> None:
    operation["summary"] = operation["description"].partition(". ")[0].partition("\n\n")[0].rstrip(".")
    if needed := [role for scheme in operation.get("security", ()) for role in next(iter(scheme.values()))]:
        operation["description"] += f"\n\nRole: {needed[0]}."
    if example := EXAMPLES.get(operation["operationId"]):
        operation["requestBody"]["content"]["application/json"]["example"] = example
    told = operation["responses"]
    told.pop("422", None)  # FastAPI's own form of it, which is not ours
    for status, text in GOOD.items():
        if told.get(status, {}).get("description") == "Successful Response":
            told[status]["description"] = text
    for status in _errors(operation):
        told.setdefault(status, {"$ref": f"#/components/responses/{status}"})


def _errors(operation: dict[str, Any]) -> list[str]:
    has_body = "requestBody" in operation
    told = FAILED + (REFUSED if has_body or "security" in operation else ())
    return [str(error.http_status) for _, error in told] + (["413"] if has_body else [])


def _answer(text: str, error: ZugvogelError) -> dict[str, Any]:
    body = ErrorBody(code=error.code, cause=error.cause, next_step=error.next_step)
    content = {"schema": {"$ref": "#/components/schemas/ErrorAnswer"}, "example": {"error": body.model_dump()}}
    return {"description": text, "content": {"application/json": content}}
