"""The registry on etcd, spoken to over its JSON gateway (ADR 0003): base64 keys and values, mutual TLS."""

from __future__ import annotations

import asyncio
import base64
import builtins
import json
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any

from zugvogel.errors import Conflict, Refused, Unreachable
from zugvogel.http import httpx
from zugvogel.ports.registry import Change, Entry

PREFIX = "/zugvogel/"
TIMEOUT = httpx.Timeout(4.0, connect=1.5)
WATCH_S = 60.0
"""A watch that is silent for so long is begun anew: its member may have lost its power."""
FRESH_S = 1.5
"""So long a read that may be stale waits for a majority's answer before it takes one member's."""
LOST_S = 5.0
"""So long such reads do not ask for a majority again after there was none."""
NO_MAJORITY = "wait for more primaries to come back; vms and their failover do not depend on it"
CHANGED = "read it again and retry"

_BROKEN = (httpx.HTTPError, OSError)
"""OSError: httpx lets an ssl.SSLError through when the peer refuses our certificate after the handshake."""
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_REFUSED_CODES = {3, 5, 9}
"""gRPC: invalid argument, not found, failed precondition. Every other member would say the same."""


def _b64(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def _after(prefix: str) -> str:
    """The first key that no longer starts with `prefix`."""
    raw = prefix.encode()
    return _b64(raw[:-1] + bytes([raw[-1] + 1]))


class EtcdRegistry:
    """`endpoints` are asked in order ("https://192.0.2.11:7443"); the one that answered last comes first."""

    def __init__(self, endpoints: Callable[[], list[str]], context: ssl.SSLContext) -> None:
        self._endpoints = endpoints
        self._client = httpx.AsyncClient(verify=context, timeout=TIMEOUT, trust_env=False)
        self._good = ""
        self._lost_until = 0.0

    async def close(self) -> None:
        await self._client.aclose()

    async def call(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """POST to the gateway of the first member that answers. Raises Unreachable, and Refused for what
        etcd will not do whoever is asked."""
        return (await self._call(path, body))[0]

    async def ask(self, endpoint: str, path: str, body: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """That one member's own answer. Raises Unreachable, whatever it says instead."""
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._client.post(f"{endpoint}{path}", json=body)
        except (*_BROKEN, TimeoutError) as error:
            raise Unreachable(f"{endpoint} does not answer: {_text(error)}", "see: zv host list") from error
        if answer.status_code != 200:
            raise Unreachable(f"{endpoint} has no answer: {_cause(answer)[1]}", "see: zv host list")
        found: dict[str, Any] = answer.json()
        return found

    async def _call(self, path: str, body: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        """The answer, and whether an earlier attempt may have been carried out although it seemed to fail."""
        last, is_doubtful = "no primary is known", False
        for endpoint in self._in_order():
            try:
                answer = await self._client.post(f"{endpoint}{path}", json=body)
            except _BROKEN as error:
                last = f"{endpoint}: {_text(error)}"
                is_doubtful = is_doubtful or not isinstance(error, _NOT_SENT)
                continue
            if answer.status_code == 200:
                self._good = endpoint
                return answer.json(), is_doubtful
            code, last = _cause(answer)
            if code in _REFUSED_CODES and not is_doubtful:
                raise Refused(f"the registry refuses: {last}")
            is_doubtful = True
        raise Unreachable(f"the registry has no majority within reach ({last})", NO_MAJORITY)

    def _in_order(self) -> list[str]:
        known = self._endpoints()
        return [self._good, *(e for e in known if e != self._good)] if self._good in known else known

    # the port ------------------------------------------------------------------------------------

    async def get(self, key: str, *, stale_ok: bool = False) -> Entry | None:
        found = await self._range({"key": _b64(PREFIX + key)}, stale_ok)
        return found[0] if found else None

    async def list(self, prefix: str, *, stale_ok: bool = False) -> list[Entry]:
        whole = PREFIX + prefix
        return await self._range({"key": _b64(whole), "range_end": _after(whole), "sort_target": "KEY"}, stale_ok)

    async def _range(self, body: dict[str, Any], stale_ok: bool) -> builtins.list[Entry]:
        answer = await (self._fresh_or_stale(body) if stale_ok else self.call("/v3/kv/range", body))
        return [_entry(kv) for kv in answer.get("kvs", [])]

    async def _fresh_or_stale(self, body: dict[str, Any]) -> dict[str, Any]:
        """Of a majority where there is one, so that nobody misses what he has just written; else of any."""
        loop = asyncio.get_running_loop()
        if loop.time() >= self._lost_until:
            try:
                async with asyncio.timeout(FRESH_S):
                    return await self.call("/v3/kv/range", body)
            except (TimeoutError, Unreachable):
                self._lost_until = loop.time() + LOST_S
        return await self.call("/v3/kv/range", {**body, "serializable": True})

    async def put(self, key: str, value: bytes, *, revision: int | None = None) -> int:
        if revision is None:
            answer = await self.call("/v3/kv/put", {"key": _b64(PREFIX + key), "value": _b64(value)})
            return int(answer["header"]["revision"])
        return await self._transact({key: value}, {key: revision})

    async def put_many(self, changes: dict[str, bytes], *, expect: dict[str, int]) -> None:
        await self._transact(changes, expect)

    async def _transact(self, changes: dict[str, bytes], expect: dict[str, int]) -> int:
        """Writes all where all is as expected. Where an answer was lost and the request was repeated, the
        values are read back: finding our own, all of one revision, the first attempt did it."""
        puts = [{"requestPut": {"key": _b64(PREFIX + k), "value": _b64(v)}} for k, v in changes.items()]
        reads = [{"requestRange": {"key": _b64(PREFIX + k)}} for k in changes]
        body = {"compare": _compare(expect), "success": puts, "failure": reads}
        answer, is_doubtful = await self._call("/v3/kv/txn", body)
        if answer.get("succeeded"):
            return int(answer["header"]["revision"])
        if is_doubtful and (written := _written_at(answer, changes)):
            return written
        raise _changed(expect, is_doubtful)

    async def delete(self, key: str, *, revision: int | None = None) -> bool:
        body = {"key": _b64(PREFIX + key)}
        if revision is None:
            return int((await self.call("/v3/kv/deleterange", body)).get("deleted", 0)) > 0
        remove = [{"requestDeleteRange": body}]
        answer, is_doubtful = await self._call(
            "/v3/kv/txn", {"compare": _compare({key: revision}), "success": remove}
        )
        if not answer.get("succeeded"):
            raise _changed({key: revision}, is_doubtful)
        return revision > 0

    async def snapshot(self, prefix: str) -> tuple[builtins.list[Entry], int]:
        whole = PREFIX + prefix
        answer = await self._fresh_or_stale({"key": _b64(whole), "range_end": _after(whole)})
        return [_entry(kv) for kv in answer.get("kvs", [])], int(answer["header"]["revision"])

    async def watch(self, prefix: str, *, after: int) -> AsyncIterator[Change]:
        whole = PREFIX + prefix
        create = {"key": _b64(whole), "range_end": _after(whole), "start_revision": str(after + 1)}
        timeout = httpx.Timeout(TIMEOUT.connect, read=WATCH_S)
        for endpoint in self._in_order():
            request = self._client.build_request(
                "POST", f"{endpoint}/v3/watch", json={"create_request": create}, timeout=timeout
            )
            try:
                answer = await self._client.send(request, stream=True)
            except _BROKEN:
                continue
            if answer.status_code == 200:
                async for change in _followed(answer):
                    yield change
                return
            await answer.aclose()
        raise Unreachable("the registry has no majority within reach (no primary answers)", NO_MAJORITY)


async def _followed(answer: httpx.Response) -> AsyncIterator[Change]:
    """Changes as the stream tells them. Raises Unreachable when it breaks, or etcd gives the watch up."""
    try:
        async for line in answer.aiter_lines():
            message = json.loads(line)
            result = message.get("result", {})
            if "error" in message or result.get("canceled"):
                why = "its beginning was compacted away" if result.get("compact_revision") else line[:200]
                raise Unreachable(f"the registry ended the watch: {why}", "read everything anew")
            for change in _changes(result):
                yield change
    except (*_BROKEN, ValueError) as error:
        raise Unreachable(
            f"the watch of the registry broke off: {_text(error)}", "read everything anew"
        ) from error
    finally:
        await answer.aclose()


def _compare(expect: dict[str, int]) -> list[dict[str, Any]]:
    return [
        {"key": _b64(PREFIX + key), "target": "MOD", "result": "EQUAL", "modRevision": str(revision)}
        for key, revision in expect.items()
    ]


def _entry(kv: dict[str, Any]) -> Entry:
    key = base64.b64decode(kv["key"]).decode().removeprefix(PREFIX)
    return Entry(key, base64.b64decode(kv.get("value", "")), int(kv["mod_revision"]))


def _changes(result: dict[str, Any]) -> list[Change]:
    found = []
    for event in result.get("events", []):
        entry = _entry(event["kv"])
        value = None if event.get("type") == "DELETE" else entry.value
        found.append(Change(entry.key, value, entry.revision))
    return found


def _written_at(answer: dict[str, Any], changes: dict[str, bytes]) -> int:
    """The one revision at which all keys took these very values; 0 where that is not so."""
    found = [_entry(kv) for r in answer.get("responses", []) for kv in r.get("response_range", {}).get("kvs", [])]
    revisions = {e.revision for e in found}
    is_ours = {e.key: e.value for e in found} == changes and len(revisions) == 1
    return revisions.pop() if is_ours else 0


def _changed(expect: dict[str, int], is_doubtful: bool) -> Conflict | Unreachable:
    keys = ", ".join(sorted(expect))
    if is_doubtful:
        return Unreachable(f"an answer of the registry was lost and {keys} was changed, perhaps by us", CHANGED)
    return Conflict(f"{keys} was changed meanwhile", CHANGED)


def _cause(answer: httpx.Response) -> tuple[int, str]:
    """gRPC's code (-1: not told) and text of an answer that is an error."""
    try:
        told = answer.json()
        return int(told.get("code", -1)), str(told.get("error", answer.text))[:200]
    except (ValueError, TypeError, AttributeError):
        return -1, answer.text[:200]


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__
