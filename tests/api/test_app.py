from __future__ import annotations

import httpx
import pytest

from tests.api.conftest import bearer


async def test_health_and_ca_need_no_token(http: httpx.AsyncClient) -> None:
    assert (await http.get("/health")).json() == {"host": "host1", "status": "ok", "is_registry_loaded": True}
    assert (await http.get("/ca")).text == "THE CA"


@pytest.mark.parametrize(
    "path", ["hosts", "vms", "datastores", "networks", "tasks", "events", "settings", "cluster"]
)
async def test_lists_answer_a_viewer_and_nobody_without_token(http: httpx.AsyncClient, path: str) -> None:
    assert (await http.get(f"/{path}", headers=bearer("viewer"))).status_code == 200
    refused = await http.get(f"/{path}")
    assert refused.status_code == 403
    assert refused.json()["error"]["code"] == "forbidden"


@pytest.mark.parametrize(
    ("method", "path", "body", "lowest"),
    [
        ("POST", "/vms/web1/start", {}, "operator"),
        ("POST", "/vms/web1/stop", None, "operator"),
        ("POST", "/vms/web1/kill", None, "operator"),
        ("POST", "/vms/web1/reset", None, "operator"),
        ("POST", "/vms/web1/migrate", {"target": "host2"}, "operator"),
        ("POST", "/vms/web1/migration-plan", {}, "operator"),
        ("PATCH", "/vms/web1", {"cpus": 4}, "operator"),
        ("GET", "/vms/web1/log", None, "viewer"),
        ("GET", "/tokens", None, "admin"),
        ("POST", "/tokens", {"access": "viewer"}, "admin"),
        ("POST", "/join-tokens", None, "admin"),
        ("PUT", "/settings/migration.channels", {"value": 2}, "admin"),
        ("PUT", "/cluster/baseline", {"model": "auto"}, "admin"),
        ("DELETE", "/hosts/host2", None, "admin"),
        ("POST", "/hosts/host2/confirm-dead", None, "admin"),
        ("PATCH", "/hosts/host2", {"failure_domain": "rack1"}, "admin"),
        ("POST", "/hosts/host2/maintenance", {"is_on": True}, "admin"),
        ("POST", "/cluster/reconfigure", None, "admin"),
        ("POST", "/datastores", {"name": "d", "path": "/srv/d"}, "admin"),
        ("PATCH", "/datastores/shared", {"proof": "default"}, "admin"),
        ("POST", "/networks", {"name": "n", "bridge": "br1"}, "admin"),
    ],
)
async def test_each_role_may_do_its_part(
    http: httpx.AsyncClient, method: str, path: str, body: object, lowest: str
) -> None:
    order = ["viewer", "operator", "admin"]
    for role in order:
        answer = await http.request(method, path, json=body, headers=bearer(role))
        is_allowed = order.index(role) >= order.index(lowest)
        assert (answer.status_code < 300) is is_allowed, answer.text
        if not is_allowed:
            assert answer.json()["error"]["code"] == "forbidden"


async def test_host_list_has_the_fixed_fields(http: httpx.AsyncClient) -> None:
    first = (await http.get("/hosts", headers=bearer("viewer"))).json()[0]
    assert {k: first[k] for k in ("name", "role", "verdict", "address")} == {
        "name": "host1",
        "role": "primary",
        "verdict": "live",
        "address": "192.0.2.11",
    }
    assert first["cores"] == 8


async def test_token_secrets_never_leave(http: httpx.AsyncClient) -> None:
    answer = await http.get("/tokens", headers=bearer("admin"))
    assert "sha256" not in answer.text
    made = await http.post("/tokens", json={"access": "operator"}, headers=bearer("admin"))
    assert made.json()["token"] == "t2.secret"


async def test_unknown_vm_and_unknown_path_are_404_in_the_same_shape(http: httpx.AsyncClient) -> None:
    vm = await http.get("/vms/nobody", headers=bearer("viewer"))
    assert vm.status_code == 404
    assert vm.json() == {
        "error": {"code": "not-found", "cause": "there is no vm nobody", "next_step": "see `zv vm list`"}
    }
    path = await http.get("/nothing", headers=bearer("viewer"))
    assert path.status_code == 404
    assert path.json()["error"]["code"] == "not-found"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b"null",
        b"[" * 100_000,
        b'{"name": "../etc", "memory_bytes": 1e999, "cpus": 1}',
        b'{"name": "a", "memory_bytes": 536870912, "cpus": 1, "surprise": 1}',
        b'{"name": "a\\ud800", "memory_bytes": 536870912, "cpus": 1}',
        b'{"name": "a", "memory_bytes": NaN, "cpus": true}',
        b'{"name": "a\\n", "memory_bytes": 536870912, "cpus": 1}',
    ],
)
async def test_bad_bodies_are_told_and_never_a_5xx(http: httpx.AsyncClient, body: bytes) -> None:
    headers = bearer("admin") | {"content-type": "application/json"}
    answer = await http.post("/vms", content=body, headers=headers)
    assert 400 <= answer.status_code < 500
    assert answer.json()["error"]["code"] == "invalid-input"
    assert answer.json()["error"]["cause"]


async def test_cause_names_the_field(http: httpx.AsyncClient) -> None:
    answer = await http.post("/vms", json={"name": "A", "memory_bytes": 2**29, "cpus": 0}, headers=bearer("admin"))
    assert answer.status_code == 422
    cause = answer.json()["error"]["cause"]
    assert "name:" in cause
    assert "cpus:" in cause


async def test_bad_names_in_paths_are_422(http: httpx.AsyncClient) -> None:
    answer = await http.get("/vms/..%2fetc", headers=bearer("viewer"))
    assert answer.status_code in (404, 422)
    assert (await http.get("/vms/UPPER", headers=bearer("viewer"))).status_code == 422


async def test_large_bodies_are_refused(http: httpx.AsyncClient) -> None:
    answer = await http.post("/vms", content=b"x" * 2_000_000, headers=bearer("admin"))
    assert answer.status_code == 413


async def test_only_admins_make_the_agent_read_host_files(http: httpx.AsyncClient) -> None:
    body = {"name": "thief", "memory_bytes": 2**29, "cpus": 1, "image": "/etc/shadow"}
    refused = await http.post("/vms", json=body, headers=bearer("operator"))
    assert refused.status_code == 403
    assert (
        await http.post("/vms", json=body | {"image": "lab-guest"}, headers=bearer("operator"))
    ).status_code == 202


async def test_refused_migration_gives_all_causes(http: httpx.AsyncClient) -> None:
    answer = await http.post("/vms/web1/migrate", json={"target": "host3"}, headers=bearer("operator"))
    assert answer.status_code == 409
    assert answer.json()["error"]["next_step"] == "choose host2"


async def test_join_is_allowed_by_the_join_token_alone(http: httpx.AsyncClient) -> None:
    body = {"token": "j1.x", "name": "host3", "address": "192.0.2.13", "csr_pem": "P", "qemu_csr_pem": "P"}
    assert (await http.post("/join", json=body)).json()["cluster_name"] == "birds"
    assert (await http.post("/join", json=body | {"token": "no"})).status_code == 403
