"""Blocking file calls in threads, each with a deadline, so that a hung datastore hangs nobody else.

A call that hangs in the kernel cannot be ended: its thread stays until the storage answers. So the threads
are bounded per datastore, and once all of them hang, further calls fail at once. They are daemon threads of
our own because `concurrent.futures` joins its threads at exit.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import threading
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

from zugvogel.errors import DeadlineExceeded, StorageError

T = TypeVar("T")

_CAUSES = {
    errno.ENOSPC: ("is full", "free space on it"),
    errno.EDQUOT: ("is over its quota", "free space on it or raise the quota"),
    errno.EROFS: ("is read-only", "check its mount and the storage behind it"),
    errno.ENOTCONN: ("has lost its connection", "check its mount and the storage behind it"),
    errno.ESTALE: ("has gone stale (ESTALE)", "mount it again"),
    errno.EIO: ("has an I/O error", "check the storage behind it"),
    errno.EPERM: ("does not permit this to root", "export it with no_root_squash"),
    errno.EACCES: ("does not permit this to root", "export it with no_root_squash"),
}


class Deadlines:
    """At most `threads` calls at a time on one datastore, called `name` in errors."""

    def __init__(self, name: str, threads: int = 8, deadline_s: float = 10.0) -> None:
        self.name = name
        self.deadline_s = deadline_s
        self._threads = threads
        self._hung = 0
        self._slots = asyncio.Semaphore(threads)

    async def run(self, what: str, call: Callable[[], T], deadline_s: float | None = None) -> T:
        """The result of `call`. Raises `DeadlineExceeded` (it may still happen later), `StorageError`
        for an OSError, and whatever of ours `call` raises. `what`: "writing the beat"."""
        limit_s = self.deadline_s if deadline_s is None else deadline_s
        if self._hung >= self._threads:
            raise DeadlineExceeded(f"{self.name} hangs: {self._hung} calls to it do not come back", _HANG)
        try:
            async with asyncio.timeout(limit_s):
                await self._slots.acquire()
                return await _Call(call, self._release).result()
        except TimeoutError as error:
            raise DeadlineExceeded(f"{what} on {self.name} took longer than {limit_s:g} s", _HANG) from error
        except OSError as error:
            raise storage_error(self.name, what, error) from error

    def _release(self, hung: int, is_done: bool) -> None:
        self._hung += hung
        if is_done:
            self._slots.release()


_HANG = "check the mount and the storage behind it"


class _Call(Generic[T]):
    """One call in its thread. `account(change of hung calls, is done)` runs in the loop."""

    def __init__(self, call: Callable[[], T], account: Callable[[int, bool], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[T] = self._loop.create_future()
        self._call = call
        self._account = account
        self._is_abandoned = False
        threading.Thread(target=self._work, name="datastore", daemon=True).start()

    async def result(self) -> T:
        try:
            return await asyncio.shield(self._future)
        except asyncio.CancelledError:
            if not self._future.done():
                self._is_abandoned = True
                self._account(1, False)
            raise

    def _work(self) -> None:
        try:
            result = self._call()
        except BaseException as error:
            self._hand_back(partial(self._future.set_exception, error))
        else:
            self._hand_back(partial(self._future.set_result, result))

    def _hand_back(self, settle: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            self._loop.call_soon_threadsafe(self._finish, settle)

    def _finish(self, settle: Callable[[], None]) -> None:
        self._account(-1 if self._is_abandoned else 0, True)
        if self._is_abandoned:
            self._future.cancel()
        else:
            settle()


def storage_error(name: str, what: str, error: OSError) -> StorageError:
    """An OSError in plain words."""
    cause, step = _CAUSES.get(error.errno or 0, ("", "check its mount and the storage behind it"))
    text = f"{name} {cause}" if cause else f"{what} on {name} failed: {error.strerror or error}"
    return StorageError(text, step)
