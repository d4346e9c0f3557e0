"""Orders between hosts as files: ``.zugvogel/orders/<host>/<vm>.<kind>`` and its answer beside it, sealed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from zugvogel.adapters.datastore import layout
from zugvogel.adapters.datastore.deadline import Deadlines
from zugvogel.adapters.datastore.direct_io import read_uncached
from zugvogel.adapters.datastore.sealed import seal, unseal


class FileOrders:
    """`check` as for the leases. `order`, `answer`: the ends of the two files' names."""

    def __init__(
        self,
        root: Path,
        host: str,
        deadlines: Deadlines,
        check: Callable[[], None],
        *,
        order: str = "order",
        answer: str = "answer",
    ) -> None:
        self._folder = layout.own(root) / "orders"
        self._host = host
        self._deadlines = deadlines
        self._check = check
        self._order, self._answer = order, answer

    def _path(self, host: str, vm: str, kind: str) -> Path:
        return self._folder / layout.checked_host(host) / f"{layout.checked_name(vm)}.{kind}"

    async def give(self, host: str, vm: str, order: bytes) -> None:
        await self._deadlines.run("giving an order", lambda: self._write(self._path(host, vm, self._order), order))

    async def answer(self, host: str, vm: str, answer: bytes) -> None:
        await self._deadlines.run("answering", lambda: self._write(self._path(host, vm, self._answer), answer))

    async def withdraw(self, host: str, vm: str) -> None:
        await self._remove(host, vm, self._answer)

    async def take_back(self, host: str, vm: str) -> None:
        await self._remove(host, vm, self._order, self._answer)

    async def _remove(self, host: str, vm: str, *kinds: str) -> None:
        paths = [self._path(host, vm, kind) for kind in kinds]

        def remove() -> None:
            self._check()
            for path in paths:
                path.unlink(missing_ok=True)
            layout.prune_temporaries(paths[0].parent, self._host)

        await self._deadlines.run("taking an order back", remove)

    async def given(self, host: str) -> dict[str, bytes]:
        folder = self._folder / layout.checked_host(host)

        def look() -> dict[str, bytes]:
            self._check()
            found = {}
            with contextlib.suppress(FileNotFoundError):
                names = layout.names_in(folder)
                for name in names:
                    if name.endswith(f".{self._order}") and (body := _read(folder / name)) is not None:
                        found[name.removesuffix(f".{self._order}")] = body
                if any(name.startswith(layout.TEMPORARY) for name in names):
                    layout.prune_temporaries(folder, self._host)
            return found

        return await self._deadlines.run("looking for orders", look)

    async def answer_of(self, host: str, vm: str) -> bytes | None:
        path = self._path(host, vm, self._answer)

        def look() -> bytes | None:
            self._check()
            return _read(path)

        return await self._deadlines.run("looking for an answer", look)

    def _write(self, path: Path, body: bytes) -> None:
        self._check()
        path.parent.mkdir(parents=True, exist_ok=True)
        layout.replace_durably(path, seal(body), self._host)


def _read(path: Path) -> bytes | None:
    try:
        return unseal(read_uncached(path))
    except FileNotFoundError:
        return None
