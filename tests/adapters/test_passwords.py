"""The contract of `zugvogel.ports.passwords.Passwords`, kept by the real one and the simulator's."""

from __future__ import annotations

import asyncio
import threading

import pytest
from argon2 import extract_parameters

from zugvogel.adapters import passwords
from zugvogel.adapters.passwords import ArgonPasswords
from zugvogel.ports.passwords import Passwords
from zugvogel.sim.passwords import SimPasswords


@pytest.mark.parametrize("kind", [ArgonPasswords, SimPasswords])
async def test_the_right_password_alone_matches(kind: type[Passwords]) -> None:
    held = kind()
    hashed = await held.hash("correct horse")
    assert "correct" not in hashed
    assert await held.verify(hashed, "correct horse")
    assert not await held.verify(hashed, "correct horsf")
    for password in ("", "simulated:", "correct horse", held.nobody):
        assert not await held.verify(held.nobody, password)


async def test_nobody_costs_what_a_user_costs() -> None:
    held = ArgonPasswords()
    assert extract_parameters(held.nobody) == extract_parameters(await held.hash("correct horse"))
    assert held.nobody != ArgonPasswords().nobody


async def test_each_hash_has_its_salt() -> None:
    held = ArgonPasswords()
    assert await held.hash("correct horse") != await held.hash("correct horse")


async def test_the_same_signs_are_the_same_password() -> None:
    held = ArgonPasswords()
    assert await held.verify(await held.hash("Zugv\u00f6gel!"), "Zugvo\u0308gel!")


async def test_what_is_no_hash_matches_nothing() -> None:
    assert not await ArgonPasswords().verify("", "correct horse")


async def test_it_works_beside_the_event_loop_and_few_at_once() -> None:
    held, seen, at_once, most = ArgonPasswords(), set(), 0, 0
    lock = threading.Lock()
    together = threading.Barrier(passwords.AT_ONCE, timeout=30)

    def work() -> None:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
            seen.add(threading.current_thread())
        together.wait()
        with lock:
            at_once -= 1

    await asyncio.gather(*(held._beside(work) for _ in range(passwords.AT_ONCE * 3)))
    assert most == passwords.AT_ONCE
    assert threading.main_thread() not in seen
