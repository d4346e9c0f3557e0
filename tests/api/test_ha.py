from __future__ import annotations

import httpx
import pytest

from tests.api.conftest import bearer


@pytest.mark.parametrize(
    ("method", "path", "lowest"),
    [
        ("GET", "/ha", "viewer"),
        ("GET", "/ha/plan?fail=host2", "viewer"),
        ("GET", "/ha/explain/host2", "viewer"),
        ("GET", "/ha/explain/web1", "viewer"),
        ("POST", "/ha/enable", "admin"),
        ("POST", "/ha/disable", "admin"),
    ],
)
async def test_each_role_may_do_its_part(http: httpx.AsyncClient, method: str, path: str, lowest: str) -> None:
    order = ["viewer", "operator", "admin"]
    assert (await http.request(method, path)).status_code == 403
    for role in order:
        answer = await http.request(method, path, headers=bearer(role))
        assert (answer.status_code == 200) is (order.index(role) >= order.index(lowest)), answer.text


async def test_the_status_has_the_fixed_fields(http: httpx.AsyncClient) -> None:
    found = (await http.get("/ha", headers=bearer("viewer"))).json()
    assert (found["enabled"], found["active_primary"], found["failover_level"]) == (False, "host1", 1)
    assert {k: found["admission"][k] >> 30 for k in ("used", "reserved", "free")} == {
        "used": 6,
        "reserved": 4,
        "free": 2,
    }
    enabled = (await http.post("/ha/enable", headers=bearer("admin"))).json()
    assert enabled["enabled"] is True
    assert [p["subject"] for p in enabled["protections"] if not p["is_present"]] == ["host1", "host2"]
    assert (await http.post("/ha/disable", headers=bearer("admin"))).json()["enabled"] is False


async def test_a_plan_takes_several_hosts(http: httpx.AsyncClient) -> None:
    found = await http.get("/ha/plan", params={"fail": ["host1", "host2"]}, headers=bearer("viewer"))
    assert found.json()["hosts"] == ["host1", "host2"]
    assert found.json()["is_complete"] is False


@pytest.mark.parametrize(
    "query", ["", "?fail=", "?fail=UPPER", "?fail=../x", "?fail=host1&fail=..", "?fail=host9"]
)
async def test_hosts_that_cannot_be_meant_are_refused(http: httpx.AsyncClient, query: str) -> None:
    answer = await http.get(f"/ha/plan{query}", headers=bearer("viewer"))
    assert answer.status_code == (404 if "host9" in query else 422)
    assert answer.json()["error"]["cause"]


async def test_explanations_of_hosts_and_of_vms(http: httpx.AsyncClient) -> None:
    host = (await http.get("/ha/explain/host2", headers=bearer("viewer"))).json()
    assert (host["kind"], host["judge"], host["evidence"][0]) == ("host", "host1", "heartbeat 0.4 s ago")
    assert (await http.get("/ha/explain/web1", headers=bearer("viewer"))).json()["kind"] == "vm"
    wrong = await http.get("/ha/explain/host2?kind=vm", headers=bearer("viewer"))
    assert wrong.status_code == 404
    assert (await http.get("/ha/explain/host2?kind=net", headers=bearer("viewer"))).status_code == 422


async def test_hosts_say_whether_they_are_active(http: httpx.AsyncClient) -> None:
    found = (await http.get("/hosts", headers=bearer("viewer"))).json()
    assert [h["is_active_primary"] for h in found] == [True, False]


async def test_events_have_the_fixed_fields_beside_the_old_ones(http: httpx.AsyncClient) -> None:
    vm, host = (await http.get("/events", headers=bearer("viewer"))).json()
    assert {k: vm[k] for k in ("event", "host", "vm", "cause")} == {
        "event": "vm.started",
        "host": "host1",
        "vm": "web1",
        "cause": "web1 started",
    }
    assert (vm["at"], vm["kind"], vm["subject"], vm["message"]) == (vm["at"], vm["event"], vm["vm"], vm["cause"])
    assert (host["vm"], host["subject"]) == ("", "host2")


@pytest.mark.parametrize(
    ("query", "found"),
    [("vm=web1", ["e1"]), ("host=host2", ["e2"]), ("kind=host", ["e2"]), ("kind=vm.started&host=host1", ["e1"])],
)
async def test_events_are_chosen(http: httpx.AsyncClient, query: str, found: list[str]) -> None:
    answer = await http.get(f"/events?{query}", headers=bearer("viewer"))
    assert [e["id"] for e in answer.json()] == found


async def test_settings_tell_what_is_allowed(http: httpx.AsyncClient) -> None:
    found = {s["name"]: s for s in (await http.get("/settings", headers=bearer("viewer"))).json()}
    assert found["das.isolationresponse"]["choices"] == ["leave", "shutdown", "poweroff", "suspend"]
    assert found["das.failoverlevel"]["allowed"] == "0 to 4 hosts"


async def test_a_policy_is_changed_in_part(http: httpx.AsyncClient) -> None:
    body = {"ha": {"restart_priority": "high", "preferred_hosts": ["host2"]}}
    changed = await http.patch("/vms/web1", json=body, headers=bearer("operator"))
    policy = changed.json()["definition"]["ha"]
    assert (policy["restart_priority"], policy["preferred_hosts"], policy["monitoring"]) == (
        "high",
        ["host2"],
        "crash",
    )
    for wrong in ({"restart_priority": "urgent"}, {"anti_affinity": "A B"}, {"surprise": 1}):
        refused = await http.patch("/vms/web1", json={"ha": wrong}, headers=bearer("operator"))
        assert refused.status_code == 422, wrong
