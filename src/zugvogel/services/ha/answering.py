"""Whether guests that high availability started on this host answer: looked at until they do, ever more seldom,
for some minutes; `core.answering` decides.

What is awaited is a tag of its QEMU, and so outlives the agent; of a vm that leaves this host it is forgotten.
None of this ends or touches a vm.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import ValidationError

from zugvogel.core import answering
from zugvogel.core.answering import Agent, Answers, Look, LookAgain, Silent
from zugvogel.domain.ha import AwaitedAnswer, StartOrder
from zugvogel.domain.task import Severity
from zugvogel.domain.vm import Nic
from zugvogel.errors import DeadlineExceeded, NotFound, ZugvogelError
from zugvogel.ports.peers import Handler
from zugvogel.services import address_probes
from zugvogel.services.local_vms import Guest, LocalVms

log = logging.getLogger(__name__)

TAG = "answer"
AGENT_S = 3.0
PROBE_S = 0.5


@dataclass(slots=True)
class _Watched:
    """`waited_s`: in pauses so far; while the guest cannot answer (frozen, moved) none of them passes."""

    guest: Guest
    awaited: AwaitedAnswer
    look_at: float
    waited_s: float = 0.0
    look: asyncio.Task[None] | None = None


class GuestAnswers:
    """RPC command ``ha.answer``; `tick` each second."""

    def __init__(self, vms: LocalVms) -> None:
        self._vms = vms
        self._clock = vms.clock
        self._watched: dict[str, _Watched] = {}
        self._are_all_known = False
        """No QEMU is left that an earlier agent may have begun to look at."""

    def handlers(self) -> dict[str, Handler]:
        return {"ha.answer": self._on_answer}

    def close(self) -> None:
        """Looks under way are cut off."""
        for watched in self._watched.values():
            if watched.look is not None:
                watched.look.cancel()

    async def began(self, guest: Guest, order: StartOrder, taken_at: float) -> None:
        """`guest` runs by an order that was taken up at `taken_at`. Never raises."""
        now, learned = self._clock.monotonic(), self._learned(guest)
        awaited = AwaitedAnswer(
            runs_since=now,
            down_s=None if order.down_s is None else order.down_s + now - taken_at,
            is_resume=order.is_resume,
            addresses=tuple(dict.fromkeys((*order.addresses, *learned))),
        )
        self._watched[guest.name] = _Watched(guest, awaited, now + answering.FIRST_PAUSE_S)
        await self._keep(guest, awaited)

    # looking -------------------------------------------------------------------------------------

    async def tick(self) -> None:
        """Never waits: what there is to look at is looked at by tasks."""
        if not self._are_all_known:
            self._take_up_left()
        if not self._watched:
            return
        now = self._clock.monotonic()
        for name, watched in list(self._watched.items()):
            if not self._is_here(watched):
                log.info("%s: it left before its guest was seen to answer", name)
                del self._watched[name]
            elif now >= watched.look_at and watched.look is None and _can_answer(watched.guest):
                watched.look = asyncio.create_task(self._look(watched), name=f"does {name} answer")

    def _take_up_left(self) -> None:
        """What an earlier agent was waiting for; how long it looked is not known, so the looks begin anew."""
        left = self._vms.not_in_care()
        for guest in self._vms.guests.values():
            awaited = _awaited(guest)
            if awaited is not None and not awaited.outcome and guest.name not in self._watched:
                self._watched[guest.name] = _Watched(guest, awaited, self._clock.monotonic())
        self._are_all_known = left is not None and not left

    def _is_here(self, watched: _Watched) -> bool:
        guest = watched.guest
        return self._vms.guests.get(guest.name) is guest and not guest.is_handed_over

    async def _look(self, watched: _Watched) -> None:
        guest = watched.guest
        try:
            seen = await self._see(guest, watched.awaited)
            if self._is_here(watched) and _can_answer(guest):
                await self._follow(watched, seen)
        except Exception:
            log.exception("%s: whether it answers was not looked at", guest.name)
            watched.look_at = self._clock.monotonic() + answering.LONGEST_PAUSE_S
        finally:
            watched.look = None

    async def _see(self, guest: Guest, awaited: AwaitedAnswer) -> Look:
        agent = await self._ask_agent(guest)
        nics = guest.definition.nics
        if agent is Agent.ANSWERS or not nics:
            return Look(agent, bool(nics))
        learned = tuple(a for a in self._learned(guest) if a not in awaited.addresses)
        answered = () if learned else await self._probe(guest, awaited.addresses)
        return Look(agent, True, learned, awaited.addresses[: address_probes.MOST], answered)

    async def _ask_agent(self, guest: Guest) -> Agent:
        try:
            return Agent.ANSWERS if await guest.machine.ping_guest(AGENT_S) else Agent.ABSENT
        except DeadlineExceeded:
            return Agent.MUTE
        except ZugvogelError as error:
            log.info("%s: its agent was not asked: %s", guest.name, error)
            return Agent.UNASKED

    async def _probe(self, guest: Guest, addresses: tuple[str, ...]) -> tuple[str, ...]:
        found: tuple[str, ...] = ()
        for nic in guest.definition.nics:
            bridge = self._bridge(nic)
            if bridge is not None and not found:
                found = await address_probes.answering(self._vms.network, bridge, nic.mac, addresses, PROBE_S)
        return found

    def _bridge(self, nic: Nic) -> str | None:
        try:
            return self._vms.inventory.network(nic.network).bridge_on(self._vms.host)
        except NotFound:
            return None

    def _learned(self, guest: Guest) -> tuple[str, ...]:
        return tuple(a for nic in guest.definition.nics for a in self._vms.network.learned_addresses(nic.mac))

    # what follows --------------------------------------------------------------------------------

    async def _follow(self, watched: _Watched, seen: Look) -> None:
        guest, awaited, now = watched.guest, watched.awaited, self._clock.monotonic()
        found = answering.decide(seen, watched.waited_s)
        if isinstance(found, LookAgain):
            watched.waited_s += found.pause_s
            watched.look_at = now + found.pause_s
            return
        name, host = guest.name, self._vms.host
        if isinstance(found, Answers):
            told = answering.told_answers(name, host, found, awaited, now)
            self._tell(guest, found, told, awaited, now)
        elif isinstance(found, Silent):
            told = answering.told_silent(name, host, found, awaited, now)
            self._tell(guest, found, told, awaited, now)
        else:
            told = answering.told_not_known(name, host, found)
        del self._watched[name]
        await self._keep(guest, awaited.model_copy(update={"outcome": told}))

    def _tell(self, guest: Guest, found: Answers | Silent, told: str, awaited: AwaitedAnswer, now: float) -> None:
        down_s = answering.since_failure_s(awaited, now)
        is_silent = isinstance(found, Silent)
        evidence = {
            **asdict(found),
            "host": self._vms.host,
            "epoch": guest.epoch,
            "since_failure_s": None if down_s is None else round(down_s, 1),
            "since_start_s": round(now - awaited.runs_since, 1),
        }
        self._vms.events.emit(
            "vm.silent" if is_silent else "vm.answers",
            guest.name,
            told,
            severity=Severity.WARNING if is_silent else Severity.INFO,
            evidence=evidence,
        )

    async def _keep(self, guest: Guest, awaited: AwaitedAnswer) -> None:
        """Without it the next agent does not go on, and nothing else."""
        try:
            await guest.machine.set_tags(**{TAG: awaited.model_dump(mode="json")})
        except (ZugvogelError, OSError) as error:
            log.warning("%s: that its answer is awaited was not noted: %s", guest.name, error)

    async def _on_answer(self, payload: dict[str, Any]) -> dict[str, Any]:
        """`told`: what is known of the vm's guest, in a sentence; empty: it was not high availability that started
        it here."""
        guest = self._vms.guests.get(str(payload["vm"]))
        awaited = _awaited(guest) if guest is not None else None
        if guest is None or awaited is None:
            return {"told": ""}
        waiting = answering.told_waiting(guest.name, self._vms.host, awaited, self._clock.monotonic())
        return {"told": awaited.outcome or waiting}


def _can_answer(guest: Guest) -> bool:
    return not guest.busy and not guest.frozen_why and not guest.is_paused and not guest.machine.is_frozen


def _awaited(guest: Guest) -> AwaitedAnswer | None:
    try:
        raw = guest.machine.tags.get(TAG)
        return AwaitedAnswer.model_validate(raw) if raw is not None else None
    except ValidationError as error:
        log.warning("%s: its tag %s is not understood: %s", guest.name, TAG, error)
        return None
