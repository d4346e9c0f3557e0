"""RPC and heartbeats between simulated agents: cut, lost, late, twice or out of order, as the wires have it."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from zugvogel.adapters.peers.heartbeat_udp import UNSPLIT_BYTES, ReplayGuard, encode
from zugvogel.domain.host import Heartbeat, Host
from zugvogel.errors import DeadlineExceeded, NotFound, Unreachable, ZugvogelError
from zugvogel.sim.loop import Handle

if TYPE_CHECKING:
    from zugvogel.sim.agent import SimAgent
    from zugvogel.sim.host import SimHost

CONNECT_S = 3.0
BUFFERED = 200
"""Datagrams that wait for an agent that is stopped."""
FRAME_BYTES = 42
"""Ethernet, IP and UDP around a datagram."""
RPC_BYTES = 400
"""HTTP and TLS around a request and its answer."""


@dataclass(slots=True)
class Traffic:
    """What went over the network."""

    heartbeats: int = 0
    heartbeat_bytes: int = 0
    calls: int = 0
    call_bytes: int = 0
    received_by: Counter[str] = field(default_factory=Counter)
    """Host -> heartbeats that arrived there."""


@dataclass(frozen=True, slots=True)
class Noise:
    """Shares of datagrams that are lost, come twice, or come late by up to `late_s`."""

    loss: float = 0.0
    duplication: float = 0.0
    delay: float = 0.0
    late_s: float = 2.0

    @property
    def is_none(self) -> bool:
        return not (self.loss or self.duplication or self.delay)


class SimPeers:
    """`zugvogel.ports.peers.Peers` of one agent."""

    def __init__(self, host: SimHost) -> None:
        self._host = host
        self._world = host.world

    async def call(
        self, host: Host, command: str, payload: dict[str, Any], *, timeout_s: float = 10.0
    ) -> dict[str, Any]:
        world, me = self._world, self._host
        text = json.dumps(payload)
        world.traffic.calls += 1
        world.traffic.call_bytes += len(text) + RPC_BYTES
        there = world.hosts.get(host.name)
        next_step = f"check that the agent on {host.name} runs and that its network is up"
        if there is None or not there.is_up or not world.wires.connected(me.name, there.name):
            await asyncio.sleep(min(timeout_s, CONNECT_S))
            raise Unreachable(f"{host.name} cannot be reached at {host.address}", next_step)
        answer: asyncio.Future[str] = world.loop.create_future()
        world.loop.world_at(world.loop.now + self._delay(), self._deliver, there, command, text, answer)
        try:
            async with asyncio.timeout(timeout_s):
                found: dict[str, Any] = json.loads(await answer)
                return found
        except TimeoutError:
            raise DeadlineExceeded(
                f"{host.name} gave no answer to {command} in {timeout_s:g} s", next_step
            ) from None

    def _delay(self) -> float:
        """A lost packet is sent again by TCP."""
        late = self._world.noise.loss and self._world.rng.random() < self._world.noise.loss
        return self._world.wire_delays.next() + (0.2 if late else 0.0)

    def _deliver(self, there: SimHost, command: str, text: str, answer: asyncio.Future[str]) -> None:
        agent = there.agent
        if not there.is_up:
            return
        if agent is None or not agent.is_listening:
            self._refuse(answer, f"{there.name} refuses the connection: no agent runs there")
            return
        agent.serving.add(answer)
        agent.domain.spawn(self._serve(agent, command, text, answer), f"rpc {command}")

    async def _serve(self, agent: SimAgent, command: str, text: str, answer: asyncio.Future[str]) -> None:
        """Runs in the called agent."""
        world, error, told = self._world, None, ""
        try:
            handler = agent.services.world.handlers.get(command)
            if handler is None:
                raise NotFound(f"{agent.name} knows no command {command}")
            told = json.dumps(await handler(json.loads(text)))
        except ZugvogelError as raised:
            error = type(raised)(raised.cause, raised.next_step)
        agent.serving.discard(answer)
        world.traffic.call_bytes += len(told)
        world.loop.world_at(world.loop.now + self._delay(), self._answer, agent.name, answer, told, error)

    def _answer(self, source: str, answer: asyncio.Future[str], told: str, error: ZugvogelError | None) -> None:
        """An answer that does not get through is missed until the deadline."""
        if answer.done() or not self._world.wires.connected(source, self._host.name):
            return
        if error is not None:
            answer.set_exception(error)
            answer.exception()
        else:
            answer.set_result(told)

    @staticmethod
    def _refuse(answer: asyncio.Future[str], cause: str) -> None:
        if not answer.done():
            answer.set_exception(Unreachable(cause, "start its agent"))
            answer.exception()


def break_off(serving: set[asyncio.Future[str]], name: str) -> None:
    """The agent that was asked has ended: its connections are reset."""
    for answer in serving:
        if not answer.done():
            answer.set_exception(Unreachable(f"the connection to {name} broke", "ask again"))
            answer.exception()
    serving.clear()


class SimHeartbeats:
    """`zugvogel.ports.peers.HeartbeatSender` of one agent, and the way to the others' receivers."""

    def __init__(self, host: SimHost, rng: random.Random, start: int) -> None:
        self._host = host
        self._world = host.world
        self._traffic = host.world.traffic
        self._is_even = host.world.noise.is_none
        """The network delays all alike, and loses nothing."""
        self._rng = rng
        self._start = start
        self._bytes: dict[int, int] = {}

    def send(self, to: Sequence[Host], heartbeat: Heartbeat) -> None:
        world, traffic = self._world, self._traffic
        heartbeat, size = self._measured(heartbeat)
        traffic.heartbeats += len(to)
        traffic.heartbeat_bytes += len(to) * size
        targets = [world.hosts[host.name] for host in to if host.name in world.hosts]
        if not self._is_even:
            for target in targets:
                self._send_through(world.noise, target, heartbeat)
        elif targets:
            at = world.loop.now + world.wire_delays.next()
            world.loop.world_at(at, self._arrive, heartbeat, targets)

    def _send_through(self, noise: Noise, target: SimHost, heartbeat: Heartbeat) -> None:
        """None, one or two copies, each on its own way."""
        loop, chance, to = self._world.loop, self._rng.random, (target,)
        copies = (chance() >= noise.loss) + (chance() < noise.duplication)
        for _ in range(copies):
            wait_s = self._world.wire_delays.next()
            if chance() < noise.delay:
                wait_s += self._rng.uniform(0, noise.late_s)
            loop.world_at(loop.now + wait_s, self._arrive, heartbeat, to)

    def _measured(self, heartbeat: Heartbeat) -> tuple[Heartbeat, int]:
        """As it goes out: without its report where that would not fit a frame. Sizes are those of real datagrams,
        measured once for each number of hosts heard."""
        if heartbeat.report is not None:
            whole = encode(heartbeat, b"", 1)
            if whole is not None and len(whole) <= UNSPLIT_BYTES:
                return heartbeat, len(whole) + FRAME_BYTES
            heartbeat = heartbeat.model_copy(update={"report": None})
        known = self._bytes.get(len(heartbeat.hears))
        if known is None:
            known = self._bytes[len(heartbeat.hears)] = len(encode(heartbeat, b"", 1) or b"") + FRAME_BYTES
        return heartbeat, known

    def _arrive(self, heartbeat: Heartbeat, targets: Sequence[SimHost]) -> None:
        wires, received_by = self._world.wires, self._traffic.received_by
        for target in targets:
            agent = target.agent
            if agent is None or target.is_hung:
                continue
            if wires.is_whole or wires.reaches(self._host.name, target.name):
                received_by[target.name] += 1
                agent.receiver.arrived(self._start, heartbeat)


class Receiver:
    """Datagrams of one agent: the replay guard, and the socket's buffer while the agent is stopped."""

    def __init__(self, agent: SimAgent, take: Callable[[Heartbeat], None]) -> None:
        self._name = agent.name
        self._domain = agent.domain
        self._world = agent.host.world
        self._take = take
        self._guard = ReplayGuard()
        self._buffered = 0

    def arrived(self, start: int, heartbeat: Heartbeat) -> None:
        domain = self._domain
        if not domain.is_stopped:
            domain.context.run(self._receive, start, heartbeat)
        elif not domain.is_ended and self._buffered < BUFFERED:
            self._buffered += 1
            domain.hold(Handle((self._late, (start, heartbeat), domain.context.copy())))

    def _late(self, start: int, heartbeat: Heartbeat) -> None:
        self._buffered -= 1
        self._receive(start, heartbeat)

    def _receive(self, start: int, heartbeat: Heartbeat) -> None:
        if self._guard.admit(start, heartbeat):
            self._world.heard_at[heartbeat.host, self._name] = self._world.loop.now
            self._take(heartbeat)
