"""`zv sim serve`, as people run it."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys

import httpx
import pytest

ZV = [sys.executable, "-m", "zugvogel.cli.main", "sim", "serve"]


def test_it_serves_until_ctrl_c_and_leaves_nothing_behind() -> None:
    with subprocess.Popen(
        [*ZV, "--hosts", "3", "--vms", "6", "--port", "0", "--token", "test.secret"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        shown = dict(process.stdout.readline().split(maxsplit=1) for _ in range(3))
        answer = httpx.get(
            f"{shown['url'].strip()}/api/v1/vms",
            headers={"Authorization": f"Bearer {shown['token'].strip()}"},
            trust_env=False,
        )
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 0
    assert len(answer.json()) == 6
    assert shown["try"].startswith("curl")
    assert "3 hosts start 6 vms" in told
    assert "defect" not in told


def test_the_console_is_there_with_a_user_and_ends_with_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        asked = [*ZV, "--hosts", "2", "--vms", "2", "--port", "0", "--console", str(port)]
        refused = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode != 0
    assert f"something listens on port {port} already" in refused.stderr
    with subprocess.Popen(asked, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        _, url, _, user, _, password = [process.stdout.readline() for _ in range(4)][-1].split()
        with httpx.Client(base_url=url, trust_env=False) as browser:
            form = {"user": user, "password": password, "csrftoken": _csrf(browser.get("/login").text)}
            entered = browser.post("/login", data=form)
            shown = browser.get("/")
        process.send_signal(signal.SIGINT)
    assert (entered.status_code, shown.status_code) == (303, 200)
    assert process.returncode == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(url, trust_env=False)


def _csrf(page: str) -> str:
    found = re.search(r'name="csrftoken" value="([^"]+)"', page)
    assert found
    return found[1]


def test_a_scenario_brings_its_own_cluster() -> None:
    asked = [*ZV, "--scenario", "a-host-loses-its-power", "--hosts", "3"]
    found = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode != 0
    assert "a scenario brings its own hosts and vms" in found.stderr
