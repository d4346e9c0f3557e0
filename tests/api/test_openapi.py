"""The document that the API serves of itself."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.api.fake_backend import FakeBackend
from zugvogel.api.app import create_app
from zugvogel.api.openapi import EXAMPLES, TAGS
from zugvogel.domain import requests
from zugvogel.domain.cluster import Access

DOCUMENT = create_app(FakeBackend()).openapi()
OPERATIONS = {
    told["operationId"]: (path, method, told)
    for path, methods in DOCUMENT["paths"].items()
    for method, told in methods.items()
}
OPEN = {"health", "alive", "ready", "ca", "join", "log_in"}


def described(answer: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in answer:
        _, _, group, name = answer["$ref"].split("/")
        found: dict[str, Any] = DOCUMENT["components"][group][name]
        return found
    return answer


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_tells_what_it_does_and_answers(name: str) -> None:
    _, _, told = OPERATIONS[name]
    assert re.fullmatch(r"[a-z_]+", name)
    assert told["description"]
    assert told["summary"]
    assert not told["summary"].endswith(".")
    good = [answer for status, answer in told["responses"].items() if status < "300"]
    assert len(good) == 1
    assert all("schema" in content for content in good[0]["content"].values())
    for status, answer in told["responses"].items():
        assert described(answer)["description"] != "Successful Response"
        if status >= "400" and (name, status) != ("ready", "503"):
            content = described(answer)["content"]["application/json"]
            assert content["schema"] == {"$ref": "#/components/schemas/ErrorAnswer"}
            assert set(content["example"]["error"]) == {"code", "cause", "next_step"}


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_tells_the_role_that_it_needs(name: str) -> None:
    _, _, told = OPERATIONS[name]
    if name in OPEN:
        assert "security" not in told
        return
    [scheme] = told["security"]
    [role] = scheme["HTTPBearer"]
    assert role in set(Access)
    assert told["description"].endswith(f"Role: {role}.")


def test_tags_are_described_and_used() -> None:
    used = {tag for _, _, told in OPERATIONS.values() for tag in told["tags"]}
    assert used == {tag["name"] for tag in TAGS}
    assert DOCUMENT["tags"] == TAGS


def test_all_that_is_referred_to_is_there_and_the_other_way_round() -> None:
    used = set(re.findall(r"#/components/schemas/(\w+)", str(DOCUMENT)))
    assert used == set(DOCUMENT["components"]["schemas"])


def test_names_have_their_shape() -> None:
    shape = DOCUMENT["components"]["schemas"]["CreateVm"]["properties"]["name"]["pattern"]
    assert re.search(shape, "web1")
    assert not re.search(shape, "Web 1")


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_are_right(name: str) -> None:
    content = OPERATIONS[name][2]["requestBody"]["content"]["application/json"]
    assert content["example"] == EXAMPLES[name]
    shape = next(s for s in content["schema"].get("anyOf", [content["schema"]]) if "$ref" in s)
    model = getattr(requests, shape["$ref"].rpartition("/")[2])
    assert model.model_validate(EXAMPLES[name])
