from __future__ import annotations

import httpx
import pytest

from tests.api.conftest import bearer

ADA = {"name": "ada", "access": "operator", "password": "correct horse"}


async def test_the_life_of_a_user(http: httpx.AsyncClient) -> None:
    made = await http.post("/users", json=ADA, headers=bearer("admin"))
    assert made.status_code == 201
    assert set(made.json()) == {"name", "access", "created_at", "changed_at"}
    assert (await http.post("/users", json=ADA, headers=bearer("admin"))).status_code == 409
    changed = await http.patch("/users/ada", json={"access": "viewer"}, headers=bearer("admin"))
    assert changed.json()["access"] == "viewer"
    listed = await http.get("/users", headers=bearer("admin"))
    assert [user["name"] for user in listed.json()] == ["ada"]
    assert "horse" not in made.text + changed.text + listed.text, "this fake keeps the password as its hash"
    assert (await http.delete("/users/ada", headers=bearer("admin"))).status_code == 200
    assert (await http.delete("/users/ada", headers=bearer("admin"))).status_code == 404
    assert (await http.patch("/users/ada", json={}, headers=bearer("admin"))).status_code == 404


@pytest.mark.parametrize("role", ["viewer", "operator"])
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/users", None),
        ("POST", "/users", ADA),
        ("PATCH", "/users/ada", {"access": "admin"}),
        ("DELETE", "/users/ada", None),
    ],
)
async def test_users_are_for_admins(
    http: httpx.AsyncClient, role: str, method: str, path: str, body: object
) -> None:
    assert (await http.request(method, path, json=body, headers=bearer(role))).status_code == 403


@pytest.mark.parametrize(
    "change",
    [{"name": "Ada"}, {"name": "../ada"}, {"password": "short"}, {"password": "x" * 257}, {"access": "root"}],
)
async def test_what_is_wrong_with_a_user_is_told_without_the_password(
    http: httpx.AsyncClient, change: dict[str, str]
) -> None:
    answer = await http.post("/users", json=ADA | change, headers=bearer("admin"))
    assert answer.status_code == 422
    assert next(iter(change)) in answer.json()["error"]["cause"]
    assert "horse" not in answer.text
