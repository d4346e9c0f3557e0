"""The contract of `ports.registry`, over real etcd and over the fake that stands in for it elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.adapters.etcd.members_on_loopback import Site, until_it_answers
from tests.fakes.registry import MemoryRegistry
from zugvogel.adapters.etcd.gateway import EtcdRegistry
from zugvogel.adapters.etcd.supervisor import arguments
from zugvogel.adapters.peers.rpc_server import server_context
from zugvogel.errors import Conflict, Unreachable
from zugvogel.ports.registry import Change, Registry


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One member for the whole file; every test uses keys of its own."""
    root: Path = tmp_path_factory.mktemp("etcd")
    site = Site(root)
    spec = site.spec(1)
    with spec.log_file.open("ab") as output:
        process = subprocess.Popen(["/usr/bin/etcd", *arguments(spec)], stdout=output, stderr=output)
    yield site
    process.kill()
    process.wait()


@pytest.fixture
async def etcd(site: Site) -> AsyncIterator[EtcdRegistry]:
    registry = site.registry()
    await until_it_answers(registry)
    yield registry
    await registry.close()


@pytest.fixture(params=["etcd", "memory"])
async def registry(request: pytest.FixtureRequest) -> AsyncIterator[Registry]:
    if request.param == "memory":
        yield MemoryRegistry()
        return
    registry = request.getfixturevalue("site").registry()
    await until_it_answers(registry)
    yield registry
    await registry.close()


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    return "".join(c for c in request.node.name if c.isalnum())


async def test_what_was_put_is_read(registry: Registry, key: str) -> None:
    assert await registry.get(key) is None
    revision = await registry.put(key, b"\x00one\xff")
    entry = await registry.get(key)
    assert entry is not None
    assert (entry.key, entry.value, entry.revision) == (key, b"\x00one\xff", revision)


async def test_a_list_is_sorted_and_keeps_to_its_prefix(registry: Registry, key: str) -> None:
    for name in ("b", "a"):
        await registry.put(f"{key}/{name}", name.encode())
    await registry.put(f"{key}0", b"a neighbour")
    assert [e.key for e in await registry.list(f"{key}/")] == [f"{key}/a", f"{key}/b"]


async def test_only_one_creates(registry: Registry, key: str) -> None:
    await registry.put(key, b"first", revision=0)
    with pytest.raises(Conflict):
        await registry.put(key, b"second", revision=0)
    entry = await registry.get(key)
    assert entry is not None
    assert entry.value == b"first"


async def test_a_write_with_an_old_revision_is_refused(registry: Registry, key: str) -> None:
    old = await registry.put(key, b"1")
    new = await registry.put(key, b"2", revision=old)
    with pytest.raises(Conflict):
        await registry.put(key, b"3", revision=old)
    with pytest.raises(Conflict):
        await registry.delete(key, revision=old)
    assert await registry.delete(key, revision=new)
    assert await registry.get(key) is None
    assert not await registry.delete(key)


async def test_many_are_written_together_or_not_at_all(registry: Registry, key: str) -> None:
    a, b = f"{key}/a", f"{key}/b"
    await registry.put_many({a: b"1", b: b"1"}, expect={a: 0, b: 0})
    entry = await registry.get(a)
    assert entry is not None
    with pytest.raises(Conflict):
        await registry.put_many({a: b"2", b: b"2"}, expect={a: entry.revision, b: 0})
    assert [e.value for e in await registry.list(f"{key}/")] == [b"1", b"1"]


async def test_of_many_writers_each_expecting_the_same_one_wins(registry: Registry, key: str) -> None:
    async def claim(number: int) -> bool:
        try:
            await registry.put(key, str(number).encode(), revision=0)
        except Conflict:
            return False
        return True

    won = await asyncio.gather(*(claim(n) for n in range(20)))
    assert won.count(True) == 1
    entry = await registry.get(key)
    assert entry is not None
    assert entry.value == str(won.index(True)).encode()


async def test_a_watch_tells_every_change_after_the_snapshot(etcd: EtcdRegistry, key: str) -> None:
    await etcd.put(f"{key}/a", b"before")
    entries, revision = await etcd.snapshot(f"{key}/")
    assert [e.value for e in entries] == [b"before"]
    await etcd.put(f"{key}/a", b"after")
    await etcd.put(f"{key}x", b"elsewhere")
    seen: list[Change] = []
    async with asyncio.timeout(20):
        async for change in etcd.watch(f"{key}/", after=revision):
            seen.append(change)
            if len(seen) == 1:
                await etcd.delete(f"{key}/a")
            if len(seen) == 2:
                break
    assert [(c.key, c.value) for c in seen] == [(f"{key}/a", b"after"), (f"{key}/a", None)]
    assert seen[0].revision < seen[1].revision


async def test_a_watch_from_before_the_compaction_says_so(etcd: EtcdRegistry, key: str) -> None:
    """Else it would be silent for ever about what it missed."""
    old = await etcd.put(key, b"1")
    new = await etcd.put(key, b"2")
    await etcd.call("/v3/kv/compaction", {"revision": str(new)})
    async with asyncio.timeout(20):
        with pytest.raises(Unreachable, match="compacted"):
            await anext(aiter(etcd.watch(key, after=old - 1)))


async def test_the_next_endpoint_is_asked_when_the_first_is_down(site: Site, key: str) -> None:
    good = site.specs["host1"].client_url
    registry = EtcdRegistry(lambda: ["https://127.0.0.1:1", good], site.context())
    revision = await registry.put(key, b"1")
    assert await registry.get(key) is not None
    async with asyncio.timeout(20):
        async for change in registry.watch(key, after=revision - 1):
            assert change.value == b"1"
            break
    await registry.close()


async def test_nobody_there_is_said_plainly(site: Site) -> None:
    registry = EtcdRegistry(lambda: ["https://127.0.0.1:1"], site.context())
    with pytest.raises(Unreachable, match="the registry has no majority"):
        await registry.get("a")
    with pytest.raises(Unreachable, match="the registry has no majority"):
        await registry.get("a", stale_ok=True)
    with pytest.raises(Unreachable, match="the registry has no majority"):
        await registry.put("a", b"")
    await registry.close()


async def test_a_stranger_without_a_certificate_is_turned_away(site: Site) -> None:
    context = ssl.create_default_context(cadata=site.ca.decode())
    registry = EtcdRegistry(lambda: [site.specs["host1"].client_url], context)
    with pytest.raises(Unreachable):
        await registry.get("a")
    await registry.close()


class LosesAnswers:
    """Stands before a member, carries each request there, waits for the answer and drops it."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._server: asyncio.Server | None = None
        self.carried = 0

    async def start(self) -> str:
        keys = self._site.specs["host1"].pki
        context = server_context(str(keys.host_certificate), str(keys.host_key), is_mutual=False)
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
        return f"https://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(x.split(b":")[1]) for x in head.lower().splitlines() if x.startswith(b"content-length"))
        body = await reader.readexactly(length)
        spec = self._site.specs["host1"]
        to_member = await asyncio.open_connection(spec.address, spec.client_port, ssl=self._site.context())
        to_member[1].write(head + body)
        await to_member[0].readuntil(b"\r\n\r\n")
        self.carried += 1
        to_member[1].close()
        writer.close()


@contextlib.asynccontextmanager
async def behind_a_bad_line(site: Site) -> AsyncIterator[tuple[EtcdRegistry, LosesAnswers]]:
    """The first endpoint loses its answers, the second is the member itself."""
    line = LosesAnswers(site)
    urls = [await line.start(), site.specs["host1"].client_url]
    registry = EtcdRegistry(lambda: urls, site.context())
    yield registry, line
    await registry.close()
    await line.close()


async def test_a_write_whose_answer_was_lost_is_no_conflict_with_itself(
    site: Site, etcd: EtcdRegistry, key: str
) -> None:
    async with behind_a_bad_line(site) as (registry, line):
        revision = await registry.put(key, b"mine", revision=0)
        assert line.carried == 1
    entry = await etcd.get(key)
    assert entry is not None
    assert (entry.value, entry.revision) == (b"mine", revision)


async def test_a_lost_answer_is_never_told_as_somebody_elses_change(
    site: Site, etcd: EtcdRegistry, key: str
) -> None:
    """Who deleted the key cannot be known any more, so it is Unreachable: conclude nothing."""
    revision = await etcd.put(key, b"1")
    async with behind_a_bad_line(site) as (registry, line):
        with pytest.raises(Unreachable, match="perhaps by us"):
            await registry.delete(key, revision=revision)
        assert line.carried == 1
    assert await etcd.get(key) is None
