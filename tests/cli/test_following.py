"""`zv event list --follow` and `zv task watch`: Ctrl-C, agents that go away, nothing told twice."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.fake_backend import AT, FakeBackend, running
from tests.cli.conftest import Served, serving
from zugvogel.cli import context as contexts
from zugvogel.domain.task import Event, Progress, Task, TaskState
from zugvogel.errors import NotFound, Unreachable


class Busy(FakeBackend):
    """A cluster whose events and tasks the test writes; all its hosts share them."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[Event] = []
        self.shown: Task = running(Progress(phase="precopy", message="round 1"))
        self.polls = 0
        self.polled = threading.Event()
        self.is_confused = False
        self.is_unknown = False

    def tell(self, *numbers: int) -> None:
        for n in numbers:
            told = Event(id=f"e{n:04}", at=AT, kind="vm.started", host="host1", subject="web1", message=f"no {n}")
            self.log = sorted([*self.log, told], key=lambda e: e.id)

    async def events(self, *, after: str = "", limit: int = 200, **_: str) -> list[Event]:
        self._note_poll()
        found = [e for e in self.log if e.id > after]
        return found[:limit] if after else found[-limit:]

    async def task(self, task_id: str, *, since: int = -1, wait_s: float = 0.0) -> Task:
        self._note_poll()
        if self.is_unknown:
            raise NotFound(f"there is no task {task_id}")
        return self.shown

    def _note_poll(self) -> None:
        self.polls += 1
        self.polled.set()
        if self.is_confused:
            self.is_confused = False
            raise Unreachable("the agent has not read the registry yet", "try again")

    def wait_for_poll(self) -> None:
        self.polled.clear()
        assert self.polled.wait(20)


class Zv:
    """`zv` as a process of its own, whose lines can be read while it runs."""

    def __init__(self, environment: dict[str, str], *words: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "zugvogel.cli.main", *words],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def events(self, count: int) -> list[str]:
        assert self.process.stdout is not None
        watchdog = threading.Timer(15, self.process.kill)
        watchdog.start()
        try:
            return [json.loads(self.process.stdout.readline())["id"] for _ in range(count)]
        finally:
            watchdog.cancel()

    def interrupt(self) -> tuple[int, str, str]:
        self.process.send_signal(signal.SIGINT)
        return self.end()

    def end(self) -> tuple[int, str, str]:
        try:
            out, err = self.process.communicate(timeout=20)
        finally:
            self.process.kill()
        return self.process.returncode, out, err


@pytest.fixture
def cluster() -> Busy:
    return Busy()


@pytest.fixture
def hosts(cluster: Busy, tmp_path: Path) -> Iterator[tuple[Served, contextlib.ExitStack]]:
    """The first host, and what ends it."""
    with contextlib.ExitStack() as stack:
        yield stack.enter_context(serving(cluster, tmp_path)), stack


def environment(folder: Path, *hosts: Served) -> dict[str, str]:
    context = {contexts.FILE_VARIABLE: str(folder / "contexts.toml")}
    made = {**{k: v for k, v in os.environ.items() if k != contexts.CONTEXT_VARIABLE}, **context}
    add = ["context", "add", "test", "--url", ",".join(h.url for h in hosts), "--token", "admin-token"]
    line = [sys.executable, "-m", "zugvogel.cli.main", *add, "--ca", str(hosts[0].ca_file)]
    subprocess.run(line, env=made, check=True, capture_output=True)
    return made


Hosts = tuple[Served, contextlib.ExitStack]


@pytest.mark.timeout(60)
def test_following_tells_each_event_once_and_survives_a_host(cluster: Busy, hosts: Hosts, tmp_path: Path) -> None:
    cluster.tell(*range(100, 400))
    with serving(cluster, tmp_path) as other:
        follow = ("event", "list", "--follow", "--json", "--limit", "3")
        zv = Zv(environment(tmp_path, hosts[0], other), *follow)
        assert zv.events(3) == ["e0397", "e0398", "e0399"]
        cluster.tell(400)
        assert zv.events(1) == ["e0400"]
        hosts[1].close()  # that host is gone
        cluster.tell(402)
        assert zv.events(1) == ["e0402"]
        cluster.is_confused = True  # the other has just restarted
        cluster.wait_for_poll()
        cluster.tell(401, 50)  # written late by hosts that were cut off; the second lies before all that was shown
        assert zv.events(1) == ["e0401"]
        cluster.wait_for_poll()
        cluster.wait_for_poll()
        code, out, err = zv.interrupt()
    assert (code, out) == (130, "")
    assert err.splitlines() == [
        "zv: the agent has not read the registry yet; try again; trying again",
        "zv: events are read again",
    ]


@pytest.mark.timeout(60)
def test_following_a_cluster_without_events_ends_at_ctrl_c(cluster: Busy, hosts: Hosts, tmp_path: Path) -> None:
    zv = Zv(environment(tmp_path, hosts[0]), "event", "list", "--follow")
    cluster.wait_for_poll()
    cluster.wait_for_poll()
    assert zv.interrupt() == (130, "", "")


@pytest.mark.timeout(60)
def test_ctrl_c_leaves_the_task_and_says_how_to_come_back(cluster: Busy, hosts: Hosts, tmp_path: Path) -> None:
    zv = Zv(environment(tmp_path, hosts[0]), "task", "watch", "t9")
    while cluster.polls < 3:
        cluster.wait_for_poll()
    code, out, err = zv.interrupt()
    assert (code, out) == (130, "")
    assert err == "\nvm.migrate of web1 goes on; watch: zv task watch t9\n"


@pytest.mark.timeout(60)
def test_a_watched_task_is_followed_on_another_host(cluster: Busy, hosts: Hosts, tmp_path: Path) -> None:
    with serving(cluster, tmp_path) as other:
        zv = Zv(environment(tmp_path, hosts[0], other), "task", "watch", "t9", "--json")
        while cluster.polls < 3:
            cluster.wait_for_poll()
        hosts[1].close()
        cluster.is_confused = True
        cluster.wait_for_poll()
        cluster.shown = cluster.shown.model_copy(update={"state": TaskState.DONE, "version": 9})
        code, out, err = zv.end()
    assert (code, json.loads(out)["state"], err) == (0, "done", "")


@pytest.mark.timeout(60)
def test_a_task_whose_copy_is_not_written_yet_is_waited_for(cluster: Busy, hosts: Hosts, tmp_path: Path) -> None:
    zv = Zv(environment(tmp_path, hosts[0]), "task", "watch", "t9", "--json")
    while cluster.polls < 3:
        cluster.wait_for_poll()
    cluster.is_unknown = True
    cluster.wait_for_poll()
    cluster.wait_for_poll()
    cluster.is_unknown = False
    cluster.shown = cluster.shown.model_copy(update={"state": TaskState.DONE, "version": 9})
    code, out, err = zv.end()
    assert (code, json.loads(out)["state"], err) == (0, "done", "")
