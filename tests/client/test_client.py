"""Both clients against the API of a fake cluster: typed answers, waiting for tasks, the stream of changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.api.fake_backend import FakeBackend, running
from tests.cli.conftest import Served
from zugvogel import errors
from zugvogel.client import AsyncClient, Change, Client, Picture, Ready
from zugvogel.client._async import tasks as follow_async
from zugvogel.client._sync import tasks as follow_sync
from zugvogel.domain.host import Verdict
from zugvogel.domain.requests import ChangeVm, CreateVm, Login, MigrateVm, NewUser
from zugvogel.domain.task import Progress, Task, TaskError, TaskState
from zugvogel.domain.vm import VmState


@pytest.fixture
def client(served: Served) -> Iterator[Client]:
    with Client([served.url], token="admin-token", ca_file=str(served.ca_file)) as made:
        yield made


@pytest.fixture
async def asynchronous(served: Served) -> AsyncIterator[AsyncClient]:
    async with AsyncClient([served.url], token="admin-token", ca_file=str(served.ca_file)) as made:
        yield made


def test_answers_are_models(client: Client) -> None:
    host, other = client.hosts()
    assert (host.name, host.verdict, other.verdict) == ("host1", Verdict.LIVE, Verdict.FAILED)
    vm = client.vm("web1")
    assert vm.state is VmState.RUNNING
    assert vm.definition.nics[0].network == "lan"
    assert client.health().is_registry_loaded
    assert client.ready().host == "host1"
    assert "BEGIN CERTIFICATE" in client.ca()
    assert "zugvogel_build_info" in client.metrics()
    assert client.ha_plan(["host1", "host2"]).hosts == ("host1", "host2")
    assert client.explain("web1", "vm").kind == "vm"


async def test_the_other_one_answers_the_same(client: Client, asynchronous: AsyncClient) -> None:
    vms, hosts, settings = await asyncio.gather(asynchronous.vms(), asynchronous.hosts(), asynchronous.settings())
    assert (vms, hosts, settings) == (client.vms(), client.hosts(), client.settings())


def test_errors_are_their_class(client: Client) -> None:
    with pytest.raises(errors.NotFound) as caught:
        client.vm("web9")
    assert caught.value.next_step
    with pytest.raises(errors.Refused, match="avx2"):
        client.set_baseline("x86-64-v3")


def test_a_name_is_one_part_of_a_path(client: Client) -> None:
    with pytest.raises((errors.NotFound, errors.InvalidInput)):
        client.vm("../hosts")
    with pytest.raises((errors.NotFound, errors.InvalidInput)):
        client.vm("web1?x=1")


def test_only_what_is_said_is_sent(client: Client, served: Served) -> None:
    client.create_vm(CreateVm(name="web2", memory_bytes=2**30, cpus=1))
    assert served.backend.created[-1].model_fields_set == {"name", "memory_bytes", "cpus"}
    assert client.change_vm("web1", ChangeVm(cpus=4)).cpus == 4


def test_a_session(client: Client, served: Served) -> None:
    client.new_user(NewUser(name="ada", access="viewer", password="a long one"))
    session = client.log_in(Login(user="ada", password="a long one"))
    with Client([served.url], token=session.token, ca_file=str(served.ca_file)) as hers:
        assert hers.who().user == "ada"
        with pytest.raises(errors.Forbidden):
            hers.users()
        hers.log_out()
    client.delete_user("ada")


def test_a_task_that_is_done(client: Client) -> None:
    task = client.migrate_vm("web1", MigrateVm(target="host2"))
    seen: list[Task] = []
    done = client.wait_task(task, seen.append)
    assert done.state is TaskState.DONE
    assert seen[-1] == done
    assert client.wait_task(task.id).report == done.report


class Board:
    """A backend whose task goes on by one step each time it is asked for."""

    def __init__(self, backend: FakeBackend, monkeypatch: pytest.MonkeyPatch, *steps: Task | Exception) -> None:
        self._steps = iter(steps)
        self.asked: list[int] = []
        monkeypatch.setattr(backend, "task", self._task)

    async def _task(self, task_id: str, *, since: int = -1, wait_s: float = 0.0) -> Task:
        self.asked.append(since)
        step = next(self._steps)
        if isinstance(step, Exception):
            raise step
        return step


BEGUN = running(Progress(phase="precopy")).model_copy(update={"version": 1})
HALF = BEGUN.model_copy(update={"version": 2, "progress": Progress(phase="precopy", fraction=0.5)})
DONE = HALF.model_copy(update={"version": 3, "state": TaskState.DONE})
FAILED = DONE.model_copy(
    update={
        "state": TaskState.FAILED,
        "error": TaskError(code="storage-error", cause="full", next_step="make room"),
    }
)
CANCELLED = DONE.model_copy(update={"state": TaskState.CANCELLED})
AWAY = errors.Unreachable("host1 does not answer")
UNKNOWN = errors.NotFound("there is no task t9")


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (follow_async, follow_sync):
        monkeypatch.setattr(module, "PAUSE_S", 0.0)


async def test_following_a_task_through_changes_and_absence(
    client: Client, asynchronous: AsyncClient, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[Any] = [UNKNOWN, BEGUN, AWAY, AWAY, HALF, DONE]
    board = Board(served.backend, monkeypatch, *steps)
    assert [task async for task in asynchronous.follow_task(BEGUN)] == [BEGUN, HALF, DONE]
    assert board.asked == [1, 1, 1, 1, 1, 2]
    board = Board(served.backend, monkeypatch, *steps)
    assert await asyncio.to_thread(lambda: list(client.follow_task(BEGUN))) == [BEGUN, HALF, DONE]
    assert board.asked == [1, 1, 1, 1, 1, 2]


@pytest.mark.parametrize(
    ("end", "kind", "words"),
    [(FAILED, errors.StorageError, "full; make room"), (CANCELLED, errors.ProcedureFailed, "cancelled")],
)
async def test_a_task_that_ends_otherwise_is_its_error(
    client: Client,
    asynchronous: AsyncClient,
    served: Served,
    monkeypatch: pytest.MonkeyPatch,
    end: Task,
    kind: type[errors.ZugvogelError],
    words: str,
) -> None:
    Board(served.backend, monkeypatch, BEGUN, end)
    with pytest.raises(kind, match=words):
        await asynchronous.wait_task("t9")
    Board(served.backend, monkeypatch, BEGUN, end)
    with pytest.raises(kind, match=words):
        await asyncio.to_thread(client.wait_task, "t9")


async def test_nobody_is_waited_for_for_ever(
    asynchronous: AsyncClient, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow_async, "AWAY_S", 0.0)
    monkeypatch.setattr(follow_async, "UNKNOWN_S", 0.0)
    for error in (AWAY, UNKNOWN):
        Board(served.backend, monkeypatch, error)
        with pytest.raises(type(error)):
            await asynchronous.wait_task(BEGUN)


async def test_watching(asynchronous: AsyncClient) -> None:
    picture, told = Picture(), []
    async for message in asynchronous.watch("hosts", "vms"):
        told.append(message)
        picture.apply(message)
        if isinstance(message, Ready):
            break
    assert {m.topic for m in told if isinstance(m, Change)} == {"hosts", "vms"}
    assert picture.is_ready
    assert picture.vms["web1"].state is VmState.RUNNING
    assert picture.hosts["host1"].verdict is Verdict.LIVE


def test_watching_without_asyncio(client: Client) -> None:
    first = next(client.watch("ha"))
    assert isinstance(first, Change)
    assert first.is_whole
    with pytest.raises(errors.InvalidInput, match="topic"):
        next(client.watch("birds"))
