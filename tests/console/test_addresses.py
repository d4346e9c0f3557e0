from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from zugvogel.console.addresses import back, own_path, path_of, to_login


def request(method: str = "GET", path: str = "/vms", query: str = "", **headers: str) -> Request:
    named = {"host": "console", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return Request(
        {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in named.items()],
            "scheme": "http",
            "server": ("console", 80),
        }
    )


@pytest.mark.parametrize("target", ["/", "/vms?q=a%2Fb", "/hosts/host1"])
def test_own_paths_stay(target: str) -> None:
    assert own_path(target) == target


@pytest.mark.parametrize(
    "target",
    [
        "",
        "https://elsewhere/",
        "//elsewhere",
        "/\\elsewhere",
        "javascript:x",
        "/\t/elsewhere",
        "/\n/x",
        "http://[",
    ],
)
def test_others_lead_to_the_first_page(target: str) -> None:
    assert own_path(target) == "/"


@given(st.text())
def test_no_address_leads_away_or_breaks_anything(url: str) -> None:
    for target in (own_path(url), path_of(url)):
        parts = urlsplit(target)
        assert target.startswith("/")
        assert not parts.netloc
        assert "\\" not in target[:2]
        assert target.isprintable()


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("https://elsewhere/vms?q=1#x", "/vms?q=1"),
        ("https://console//elsewhere", "/"),
        ("http://[", "/"),
        ("", "/"),
    ],
)
def test_where_somebody_came_from_is_the_same_path_here(url: str, path: str) -> None:
    assert path_of(url) == path
    assert back(request(referer=url)) == path


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        (request(query="q=a&sort=name"), "/vms?q=a&sort=name"),
        (request("POST", "/vms/web1/stop", referer="http://console/vms/web1?x=1"), "/vms/web1?x=1"),
        (request("POST", "/vms/web1/stop", hx_request="true", hx_current_url="http://console/vms"), "/vms"),
        (request("POST", "/vms/web1/stop"), "/"),
        (request("POST", "/x", referer="http://elsewhere//elsewhere/"), "/"),
    ],
)
def test_after_the_login_one_is_back(asked: Request, wanted: str) -> None:
    answer = to_login(asked)
    place = answer.headers["hx-redirect" if "hx-request" in asked.headers else "location"]
    assert urlsplit(place).path == "/login"
    assert parse_qs(urlsplit(place).query) == {"next": [wanted]}
