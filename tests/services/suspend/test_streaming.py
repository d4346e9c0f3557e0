"""zugvogel.services.suspend.streaming: when a vm whose memory is written while it runs is stopped."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from zugvogel.core.streaming import STUBBORN_ROUNDS
from zugvogel.domain.memory import ResumeAnswer
from zugvogel.domain.migration import MigrationSample
from zugvogel.errors import ProcedureFailed, StorageError
from zugvogel.services.suspend.streaming import (
    AHEAD_BYTES,
    BEHIND_S,
    CLOSE_BYTES,
    HELD_S,
    NO_CEILING,
    LiveRounds,
)

MB = 1 << 20


class Stream:
    """QEMU and a target as the test wants them."""

    def __init__(self, *, with_target: bool = True, most_bytes: int = 10_000 * MB) -> None:
        self.now = 100.0
        self.sample = MigrationSample(status="active", remaining_bytes=500 * MB, rounds=1)
        self.answer: ResumeAnswer | None = ResumeAnswer(id="m1")
        self.writer: Any = SimpleNamespace(file_bytes=0, ceiling=1 << 62)
        machine: Any = SimpleNamespace(vm="web", migration=self._sample)
        clock: Any = SimpleNamespace(monotonic=lambda: self.now)
        self.live = LiveRounds(machine, clock, self.writer, self._ask if with_target else None, most_bytes)
        self.live.begin()

    async def _sample(self) -> MigrationSample:
        return self.sample

    async def _ask(self) -> ResumeAnswer | None:
        return self.answer

    async def look(
        self,
        sent_mb: int,
        remaining_mb: float,
        *,
        rounds: int = 1,
        loaded_mb: int | None = None,
        after_s: float = 0.1,
    ) -> bool:
        """`after_s` later: so much was sent in all, and the target has loaded as much (or `loaded_mb`)."""
        self.now += after_s
        self.sample = MigrationSample(
            status="active",
            transferred_bytes=sent_mb * MB,
            remaining_bytes=int(remaining_mb * MB),
            rounds=rounds,
        )
        self.writer.file_bytes = sent_mb * MB
        self.answer = ResumeAnswer(id="m1", loaded_bytes=(sent_mb if loaded_mb is None else loaded_mb) * MB)
        await self.live.ask_target()
        return await self.live.look()


async def test_the_first_round_is_never_the_last() -> None:
    stream = Stream()
    assert not await stream.look(10, 490)
    assert not await stream.look(499, 1)
    assert stream.live.rounds == []


async def test_the_vm_is_stopped_when_little_is_left() -> None:
    stream = Stream()
    assert not await stream.look(100, 400)
    assert not await stream.look(500, 300, rounds=2)
    assert not await stream.look(800, 200, rounds=3)
    assert await stream.look(1000, 5, rounds=4)
    assert [r.number for r in stream.live.rounds] == [1, 2, 3]
    assert stream.live.rounds[0].transferred_bytes == 500 * MB
    assert stream.live.rounds[0].duration_s == pytest.approx(0.2)
    assert stream.live.why == ""


async def test_rounds_that_pass_between_two_looks_count_as_one() -> None:
    stream = Stream()
    assert not await stream.look(500, 300, rounds=5, after_s=5)
    assert not await stream.look(501, 300, rounds=5)
    assert [r.number for r in stream.live.rounds] == [1]


async def test_a_vm_that_qemu_stopped_by_itself_is_stopped() -> None:
    stream = Stream()
    stream.sample = MigrationSample(status="completed", rounds=2)
    assert await stream.live.look()


async def test_the_target_must_be_near() -> None:
    stream = Stream()
    assert not await stream.look(500, 1, rounds=2, loaded_mb=450)
    assert not await stream.look(501, 1, rounds=2, loaded_mb=480)
    assert await stream.look(502, 1, rounds=2, loaded_mb=500)
    assert stream.live.why == ""


async def test_without_a_target_nothing_waits_for_it() -> None:
    stream = Stream(with_target=False)
    assert stream.writer.ceiling == 1 << 62
    assert await stream.look(500, 1, rounds=2)


async def test_the_file_runs_ahead_of_the_target_less_and_less_towards_the_end_of_a_round() -> None:
    stream = Stream()
    assert stream.writer.ceiling == AHEAD_BYTES
    assert not await stream.look(60, 440, loaded_mb=10)
    await stream.look(60, 440, loaded_mb=10)
    assert stream.writer.ceiling == 10 * MB + AHEAD_BYTES
    await stream.look(470, 30, loaded_mb=440)
    await stream.live.ask_target()
    assert stream.writer.ceiling == 470 * MB
    await stream.look(499, 1, loaded_mb=480)
    await stream.live.ask_target()
    assert stream.writer.ceiling == 480 * MB + CLOSE_BYTES
    assert stream.live.is_held
    stream.live.end()
    assert not stream.live.is_held


async def test_a_guest_that_changes_too_much_is_stopped_all_the_same_and_it_is_told() -> None:
    stream = Stream()
    assert not await stream.look(500, 80, rounds=2, after_s=5)
    more = range(1, STUBBORN_ROUNDS + 1)
    ended = [await stream.look(500 + 80 * n, 80, rounds=2 + n, after_s=0.8) for n in more]
    assert ended == [False] * (STUBBORN_ROUNDS - 1) + [True]
    assert "did not shrink" in stream.live.why


async def test_a_target_slower_than_the_guest_does_not_hold_it_up_for_ever() -> None:
    stream = Stream(most_bytes=520 * MB)
    assert not await stream.look(500, 1, rounds=2, loaded_mb=100)
    assert await stream.look(521, 1, rounds=3, loaded_mb=101)
    assert "loads more slowly" in stream.live.why


async def test_a_target_that_gives_up_ends_it() -> None:
    stream = Stream()
    stream.answer = ResumeAnswer(id="m1", why="no room")
    await stream.live.ask_target()
    with pytest.raises(ProcedureFailed, match="gave up: no room"):
        await stream.live.look()


async def test_a_target_that_stands_still_ends_it() -> None:
    stream = Stream()
    assert not await stream.look(60, 440, loaded_mb=10)
    assert not await stream.look(60, 440, loaded_mb=10, after_s=BEHIND_S - 0.1)
    with pytest.raises(ProcedureFailed, match="loaded nothing"):
        await stream.look(60, 440, loaded_mb=10, after_s=0.2)


async def test_the_end_of_a_round_waits_little_for_a_target_that_stands_still() -> None:
    """QEMU may be waiting for the file meanwhile, and the guest for QEMU."""
    stream = Stream()
    assert not await stream.look(490, 10, loaded_mb=450)
    await stream.live.ask_target()
    assert stream.writer.ceiling == 460 * MB
    stream.now += HELD_S + 0.1
    await stream.live.ask_target()
    assert stream.writer.ceiling == NO_CEILING


async def test_an_answer_that_cannot_be_read_ends_nothing() -> None:
    stream = Stream()
    stream.live.ask = _unreachable
    await stream.live.ask_target()
    assert not await stream.live.look()


async def _unreachable() -> ResumeAnswer | None:
    raise StorageError("it hangs", "")


async def test_a_target_that_has_all_there_is_does_not_stand_still() -> None:
    stream = Stream()
    for _ in range(int(BEHIND_S * 20)):
        assert not await stream.look(60, 440)


async def test_a_target_that_gave_up_counts_though_qemu_is_done() -> None:
    """The vm goes on at once, instead of lying suspended for a target that will not load it."""
    stream = Stream()
    stream.sample = MigrationSample(status="completed", rounds=2)
    stream.answer = ResumeAnswer(id="m1", why="no room")
    await stream.live.ask_target()
    with pytest.raises(ProcedureFailed, match="no room"):
        await stream.live.look()
