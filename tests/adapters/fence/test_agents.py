"""zugvogel.adapters.fence.agents against a program that behaves like a fence agent: parameters on standard input,
the power in a file."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from zugvogel.adapters.fence.agents import FenceAgents
from zugvogel.adapters.processes import start_time
from zugvogel.domain.host import FenceConfig, Host, Role
from zugvogel.errors import DeadlineExceeded, InvalidInput, NotFound, ProcedureFailed

PASSWORD = "s3cret & more"
AGENT = f"""#!{sys.executable}
import base64, os, subprocess, sys, time
from pathlib import Path
from urllib.parse import quote
given = dict(line.rstrip("\\n").split("=", 1) for line in sys.stdin)
here = Path(given["ip"])
with (here / "calls").open("a") as calls:
    print(given["action"], given["username"], given["password"], *sys.argv[1:], file=calls)
power, mode = here / "power", given.get("plug", "")
(here / "pid").write_text(str(os.getpid()))
if given["action"] == "status":
    if mode == "unknown":
        sys.exit(1)
    on = power.read_text() == "on"
    print("Status: " + ("ON" if on else "OFF"))
    sys.exit(0 if on else 2)
if mode == "hangs":
    child = subprocess.Popen(["sleep", "1000"])
    (here / "child").write_text(str(child.pid))
    time.sleep(1000)
if mode == "refuses":
    secret = given["password"]
    print("ERROR: login of fence with", secret, quote(secret, safe=""), base64.b64encode(secret.encode()).decode())
    sys.exit(1)
if mode == "chatters":
    for _ in range(20000):
        print("x" * 100)
if mode != "lies":
    power.write_text("off")
print("Success: Powered OFF")
"""


@pytest.fixture
def device(tmp_path: Path) -> Path:
    agent = tmp_path / "fence_test"
    agent.write_text(AGENT)
    agent.chmod(0o755)
    (tmp_path / "power").write_text("on")
    return tmp_path


def fenced(device: Path, mode: str = "", agent: str = "fence_test") -> Host:
    config = FenceConfig(
        agent=agent,
        parameters={"ip": str(device), "username": "fence", "plug": mode},
        secrets={"password": PASSWORD},
    )
    return Host(name="host3", address="192.0.2.3", role=Role.PRIMARY, ordinal=3, joined_at="", fence=config)


def agents(device: Path, answer_s: float = 30.0) -> FenceAgents:
    return FenceAgents(device, answer_s)


async def test_it_is_off_when_the_device_says_so_afterwards(device: Path) -> None:
    assert await agents(device).is_on(fenced(device))
    told = await agents(device).power_off(fenced(device))
    assert told == "fence_test says that the power of host3 is off"
    assert not await agents(device).is_on(fenced(device))
    assert (device / "power").read_text() == "off"


async def test_everything_goes_by_standard_input_and_nothing_by_the_command_line(device: Path) -> None:
    await agents(device).power_off(fenced(device))
    calls = (device / "calls").read_text().splitlines()
    assert calls == [f"off fence {PASSWORD}", f"status fence {PASSWORD}"]


async def test_success_without_the_power_being_off_is_none(device: Path) -> None:
    with pytest.raises(ProcedureFailed, match="still on"):
        await agents(device).power_off(fenced(device, "lies"))


async def test_a_state_that_is_not_known_is_not_off(device: Path) -> None:
    with pytest.raises(ProcedureFailed, match="cannot say whether host3 is on: exit code 1"):
        await agents(device).power_off(fenced(device, "unknown"))


async def test_a_refusal_is_told_without_the_password_in_any_form(device: Path) -> None:
    with pytest.raises(ProcedureFailed, match=r"ERROR: login of fence with( \*{8}){3}") as refused:
        await agents(device).power_off(fenced(device, "refuses"))
    for form in (PASSWORD, "s3cret", "czNjcmV0"):
        assert form not in str(refused.value)
    assert (device / "power").read_text() == "on"


async def _gone(pid: int) -> None:
    async with asyncio.timeout(10):
        while start_time(pid) is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def _pid(file: Path) -> int:
    async with asyncio.timeout(10):
        while not (text := await asyncio.to_thread(_text, file)):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return int(text)


def _text(file: Path) -> str:
    return file.read_text() if file.exists() else ""


async def test_one_that_hangs_is_given_up_and_nothing_of_it_is_left(device: Path) -> None:
    with pytest.raises(DeadlineExceeded, match="did not answer off within 1 s"):
        await agents(device, 1.0).power_off(fenced(device, "hangs"))
    await _gone(await _pid(device / "pid"))
    await _gone(await _pid(device / "child"))


async def test_a_call_that_is_cancelled_ends_at_once(device: Path) -> None:
    call = asyncio.create_task(agents(device).power_off(fenced(device, "hangs")))
    child = await _pid(device / "child")
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await _gone(child)


async def test_one_that_talks_too_much_does_not_wait_for_us(device: Path) -> None:
    await agents(device).power_off(fenced(device, "chatters"))


async def test_without_a_device_it_is_not_found(device: Path) -> None:
    host = fenced(device).model_copy(update={"fence": None})
    with pytest.raises(NotFound, match="no device"):
        await agents(device).power_off(host)
    with pytest.raises(NotFound):
        await agents(device).is_on(host)


async def test_a_missing_agent_names_its_package(device: Path) -> None:
    with pytest.raises(ProcedureFailed, match="fence_ipmilan is not installed") as missing:
        await agents(device).power_off(fenced(device, agent="fence_ipmilan"))
    assert "fence-agents-ipmilan" in missing.value.next_step


async def test_what_is_no_program_is_not_run(device: Path) -> None:
    (device / "fence_dir").mkdir()
    (device / "fence_text").write_text("")
    for agent in ("fence_dir", "fence_text"):
        if os.geteuid() == 0 or agent == "fence_text":
            with pytest.raises(ProcedureFailed, match="no program"):
                await agents(device).is_on(fenced(device, agent=agent))


async def test_what_must_not_be_given_is_refused_also_when_it_is_in_the_registry(device: Path) -> None:
    host = fenced(device)
    assert host.fence is not None
    bad = host.fence.model_copy(update={"parameters": {**host.fence.parameters, "action": "on"}})
    with pytest.raises(InvalidInput):
        await agents(device).power_off(host.model_copy(update={"fence": bad}))
    assert not (device / "calls").exists()
