"""The client and the API's own description tell the same: every operation, its parameters, body and answer."""

from __future__ import annotations

import inspect
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args, get_type_hints

import pytest
from pydantic import BaseModel, TypeAdapter

from tests.api.fake_backend import FakeBackend
from zugvogel.api.app import create_app
from zugvogel.client import AsyncClient
from zugvogel.client._async.tasks import AsyncTaskCalls
from zugvogel.client.endpoints import PREFIX

MORE = {"close", "follow_task", "wait_task", "watch"}
"""What the client has beyond the API's operations; `watch` reads a stream."""
DOCUMENT = create_app(FakeBackend()).openapi()
OPERATIONS = {
    told["operationId"]: (method.upper(), path, told)
    for path, methods in DOCUMENT["paths"].items()
    for method, told in methods.items()
}
METHODS = {
    name: method
    for name, method in inspect.getmembers(AsyncClient, inspect.isfunction)
    if not name.startswith("_") and name not in MORE
}


@dataclass
class Asked:
    method: str
    path: str
    answer: Any
    body: BaseModel | None
    params: Mapping[str, Any]
    also: Container[int] = ()
    values: tuple[str, ...] = field(default=())


class Recording(AsyncClient):
    asked: Asked

    async def _call(
        self,
        method: str,
        answer: Any,
        path: str,
        values: tuple[str, ...],
        *,
        params: Mapping[str, Any] | None = None,
        body: BaseModel | None = None,
        also: Container[int] = (),
        prefix: str = PREFIX,
    ) -> Any:
        self.asked = Asked(method, prefix + path, answer, body, params or {}, also, values)


def given(kind: Any, name: str) -> Any:
    """Something of this type that says `name`."""
    for one in get_args(kind) or (kind,):
        if inspect.isclass(one) and issubclass(one, BaseModel):
            return one.model_construct()
    return {"fail": [name], "since": 1, "wait_s": 1.0, "lines": 7, "limit": 7, "kind": "vm"}.get(name, name)


async def asked_by(name: str) -> tuple[Asked, dict[str, Any]]:
    method = METHODS[name]
    hints = get_type_hints(method)
    arguments = {
        parameter: given(hints[parameter], parameter)
        for parameter in inspect.signature(method).parameters
        if parameter != "self"
    }
    if name == "set_baseline":
        arguments["model"] = "auto"
    client = Recording(["https://a:7440"])
    await method(client, **arguments)
    await client.close()
    return client.asked, arguments


def test_every_operation_has_one_method_and_every_method_is_one() -> None:
    assert set(METHODS) | {"watch"} == set(OPERATIONS)


@pytest.mark.parametrize("name", sorted(METHODS))
async def test_it_is_what_the_api_describes(name: str) -> None:
    asked, arguments = await asked_by(name)
    method, path, told = OPERATIONS[name]
    assert (asked.method, asked.path) == (method, path)
    parameters = told.get("parameters", [])
    in_path = [p["name"] for p in parameters if p["in"] == "path"]
    assert list(asked.values) == [arguments[p] for p in in_path]
    assert set(asked.params) == {p["name"] for p in parameters if p["in"] == "query"}
    assert all(asked.params[p] == arguments[p] for p in asked.params)
    assert body_of(asked) == body_in(told)
    assert get_type_hints(METHODS[name])["return"] == asked.answer
    assert answer_of(asked) == answer_in(told)
    assert {str(status) for status in also(asked)} == {s for s, a in told["responses"].items() if is_answer(s, a)}


@pytest.mark.parametrize("name", sorted(METHODS))
def test_it_takes_for_granted_what_the_api_does(name: str) -> None:
    """A query's default is the API's; a body may be left out where the API lets it."""
    _, _, told = OPERATIONS[name]
    own = inspect.signature(METHODS[name]).parameters
    for parameter in told.get("parameters", []):
        if parameter["in"] == "query" and not parameter.get("required"):
            assert own[parameter["name"]].default == parameter["schema"].get("default")
    if "request" in own:
        is_needed = told["requestBody"].get("required", False)
        assert own["request"].default is (inspect.Parameter.empty if is_needed else None)


def also(asked: Asked) -> list[int]:
    return [status for status in range(400, 600) if status in asked.also]


def is_answer(status: str, told: dict[str, Any]) -> bool:
    return status >= "400" and "$ref" not in told


def body_of(asked: Asked) -> str:
    return type(asked.body).__name__ if asked.body is not None else ""


def body_in(told: dict[str, Any]) -> str:
    if "requestBody" not in told:
        return ""
    schema = told["requestBody"]["content"]["application/json"]["schema"]
    return str(next(one for one in schema.get("anyOf", [schema]) if "$ref" in one)["$ref"].rpartition("/")[2])


def answer_of(asked: Asked) -> Any:
    if asked.answer is str:
        return "text/plain"
    schema = TypeAdapter(asked.answer).json_schema(
        mode="serialization", ref_template="#/components/schemas/{model}"
    )
    name = getattr(asked.answer, "__name__", "")
    return {"items": schema["items"], "type": "array"} if schema.get("type") == "array" else name


def answer_in(told: dict[str, Any]) -> Any:
    content = next(answer for status, answer in told["responses"].items() if status < "300")["content"]
    if "application/json" not in content:
        return next(iter(content))
    schema = content["application/json"]["schema"]
    schema.pop("title", None)
    return schema["$ref"].rpartition("/")[2] if "$ref" in schema else schema


def test_watch_takes_the_topics_of_the_api() -> None:
    _, path, told = OPERATIONS["watch"]
    assert path == f"{PREFIX}/watch"
    assert [p["name"] for p in told["parameters"]] == ["topics"]
    assert "text/event-stream" in told["responses"]["200"]["content"]
    assert "topics" in inspect.signature(AsyncTaskCalls.watch).parameters
