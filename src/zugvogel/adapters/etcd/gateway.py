"""The registry on etcd, spoken to over its JSON gateway (ADR 0003): base64 keys and values, mutual TLS."""

from __future__ import annotations

import base64
import builtins
import json
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx

from zugvogel.errors import Conflict, Unreachable
from zugvogel.ports.registry import Change, Entry

log = logging.getLogger(__name__)

PREFIX = "/zugvogel/"
TIMEOUT = httpx.Timeout(4.0, connect=1.5)
WATCH_S = 60.0
"""A watch that is silent for so long is begun anew: its member may have lost its power."""
NO_MAJORITY = "wait for more primaries to come back; vms and their failover do not depend on it"


def _b64(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def _after(prefix: str) -> str:
    """The first key that no longer starts with `prefix`."""
    raw = prefix.encode()
    return _b64(raw[:-1] + bytes([raw[-1] + 1]))


class EtcdRegistry:
    """`endpoints` are asked in order ("https://192.0.2.11:7443"); the first that answers is kept."""

    def __init__(self, endpoints: Callable[[], list[str]], context: ssl.SSLContext) -> None:
        self._endpoints = endpoints
        self._client = httpx.AsyncClient(verify=context, timeout=TIMEOUT, trust_env=False)
        self._good = ""

    async def close(self) -> None:
        await self._client.aclose()

    async def call(self, path: str, body: dict[str, Any], *, only: str = "") -> dict[str, Any]:
        """POST to the gateway of the first member that answers. Raises Unreachable."""
        last = "no primary is known"
        for endpoint in [only] if only else self._in_order():
            try:
                answer = await self._client.post(f"{endpoint}{path}", json=body)
            except httpx.HTTPError as error:
                last = f"{endpoint}: {error or type(error).__name__}"
                continue
            if answer.status_code == 200:
                self._good = endpoint
                found: dict[str, Any] = answer.json()
                return found
            last = _cause(answer)
        raise Unreachable(f"the registry does not answer ({last})", NO_MAJORITY)

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
        if stale_ok:
            try:
                answer = await self.call("/v3/kv/range", body)
            except Unreachable:
                answer = await self.call("/v3/kv/range", {**body, "serializable": True})
        else:
            answer = await self.call("/v3/kv/range", body)
        return [_entry(kv) for kv in answer.get("kvs", [])]

    async def put(self, key: str, value: bytes, *, revision: int | None = None) -> int:
        if revision is None:
            answer = await self.call("/v3/kv/put", {"key": _b64(PREFIX + key), "value": _b64(value)})
            return int(answer["header"]["revision"])
        return await self._transact({key: value}, {key: revision})

    async def put_many(self, changes: dict[str, bytes], *, expect: dict[str, int]) -> None:
        await self._transact(changes, expect)

    async def _transact(self, changes: dict[str, bytes], expect: dict[str, int]) -> int:
        puts = [{"requestPut": {"key": _b64(PREFIX + k), "value": _b64(v)}} for k, v in changes.items()]
        answer = await self.call("/v3/kv/txn", {"compare": _compare(expect), "success": puts})
        if not answer.get("succeeded"):
            raise Conflict(f"{', '.join(sorted(expect))} was changed meanwhile", "read it again and retry")
        return int(answer["header"]["revision"])

    async def delete(self, key: str, *, revision: int | None = None) -> bool:
        body = {"key": _b64(PREFIX + key)}
        if revision is None:
            return int((await self.call("/v3/kv/deleterange", body)).get("deleted", 0)) > 0
        remove = [{"requestDeleteRange": body}]
        answer = await self.call("/v3/kv/txn", {"compare": _compare({key: revision}), "success": remove})
        if not answer.get("succeeded"):
            raise Conflict(f"{key} was changed meanwhile", "read it again and retry")
        return True

    async def snapshot(self, prefix: str) -> tuple[builtins.list[Entry], int]:
        whole = PREFIX + prefix
        body = {"key": _b64(whole), "range_end": _after(whole)}
        try:
            answer = await self.call("/v3/kv/range", body)
        except Unreachable:
            answer = await self.call("/v3/kv/range", {**body, "serializable": True})
        return [_entry(kv) for kv in answer.get("kvs", [])], int(answer["header"]["revision"])

    async def watch(self, prefix: str, *, after: int) -> AsyncIterator[Change]:
        whole = PREFIX + prefix
        create = {"key": _b64(whole), "range_end": _after(whole), "start_revision": str(after + 1)}
        body = {"create_request": create}
        timeout = httpx.Timeout(TIMEOUT.connect, read=WATCH_S)
        for endpoint in self._in_order():
            try:
                async with self._client.stream(
                    "POST", f"{endpoint}/v3/watch", json=body, timeout=timeout
                ) as answer:
                    async for line in answer.aiter_lines():
                        for change in _changes(json.loads(line)):
                            yield change
            except httpx.ConnectError:
                continue
            except httpx.HTTPError as error:
                raise Unreachable(
                    f"the watch of the registry broke off: {error or type(error).__name__}"
                ) from error
            return
        raise Unreachable("no primary's registry answers", NO_MAJORITY)


def _compare(expect: dict[str, int]) -> list[dict[str, Any]]:
    return [
        {"key": _b64(PREFIX + key), "target": "MOD", "result": "EQUAL", "modRevision": str(revision)}
        for key, revision in expect.items()
    ]


def _entry(kv: dict[str, Any]) -> Entry:
    key = base64.b64decode(kv["key"]).decode().removeprefix(PREFIX)
    return Entry(key, base64.b64decode(kv.get("value", "")), int(kv["mod_revision"]))


def _changes(message: dict[str, Any]) -> list[Change]:
    found = []
    for event in message.get("result", {}).get("events", []):
        entry = _entry(event["kv"])
        value = None if event.get("type") == "DELETE" else entry.value
        found.append(Change(entry.key, value, entry.revision))
    return found


def _cause(answer: httpx.Response) -> str:
    try:
        return str(answer.json().get("error", answer.text))[:200]
    except ValueError:
        return answer.text[:200]
