import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zugvogel.adapters.peers.heartbeat_udp import (
    MAX_BYTES,
    UNSPLIT_BYTES,
    UdpHeartbeats,
    decode,
    encode,
    next_start_stamp,
    open_heartbeats,
)
from zugvogel.domain.host import CpuFacts, Heartbeat, Host, HostFacts, HostReport, Ports, Role

KEY = b"k" * 32


def heartbeat(sequence: int = 1, *, boot: str = "boot1", flags: int = 0) -> Heartbeat:
    cpu = CpuFacts(
        vendor="v", family=1, model=1, stepping=1, name="n",
        flags=frozenset(f"{i * 2654435761:x}" for i in range(flags)),
    )  # fmt: skip
    report = HostReport(host="h1", boot_id=boot, facts=HostFacts(cpu=cpu, cores=2, memory_total_bytes=1))
    return Heartbeat(
        host="h1", boot_id=boot, sequence=sequence, digest="d", beats={"a": 7}, report=report if flags else None
    )


def datagram(sequence: int = 1, start: int = 5, key: bytes = KEY) -> bytes:
    encoded = encode(heartbeat(sequence), key, start)
    assert encoded is not None
    return encoded


@given(st.integers(0, 2**62), st.integers(0, 2**62))
def test_what_goes_in_comes_out(sequence: int, start: int) -> None:
    assert decode(datagram(sequence, start), KEY) == (start, heartbeat(sequence))


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_changed_byte_is_noticed(at: int, by: int) -> None:
    changed = bytearray(datagram())
    changed[at % len(changed)] ^= by
    assert decode(bytes(changed), KEY) is None


@given(st.binary(max_size=200))
def test_noise_is_refused(noise: bytes) -> None:
    assert decode(noise, KEY) is None


def test_a_small_report_travels_and_a_large_one_is_left_out() -> None:
    small, large = encode(heartbeat(flags=5), KEY, 1), encode(heartbeat(flags=2000), KEY, 1)
    assert small is not None
    assert large is not None
    assert decode(small, KEY) == (1, heartbeat(flags=5))
    assert len(large) <= UNSPLIT_BYTES
    assert decode(large, KEY) == (1, heartbeat())


def test_a_start_stamp_is_above_all_before_it_whatever_the_clock_says(tmp_path: Path) -> None:
    file = tmp_path / "start"
    future = 10**15
    file.write_text(f"{future}\n")
    assert [next_start_stamp(file), next_start_stamp(file)] == [future + 1, future + 2]
    file.unlink()
    assert 0 < next_start_stamp(file) < future


class Listener:
    def __init__(self) -> None:
        self.got: asyncio.Queue[Heartbeat] = asyncio.Queue()
        self.udp: UdpHeartbeats

    async def next(self) -> int:
        return (await asyncio.wait_for(self.got.get(), 5)).sequence

    def inject(self, *datagrams: bytes) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for data in datagrams:
                sock.sendto(data, ("127.0.0.1", self.udp.port))


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    made = Listener()
    made.udp = await open_heartbeats("127.0.0.1", 0, KEY, 1, made.got.put_nowait)
    yield made
    made.udp.close()


async def test_a_heartbeat_arrives_over_loopback(listener: Listener) -> None:
    sender = await open_heartbeats("127.0.0.1", 0, KEY, 5, lambda _: None)
    to = Host(
        name="h2", address="127.0.0.1", role=Role.PRIMARY, ordinal=2, joined_at="",
        ports=Ports(heartbeat=listener.udp.port),
    )  # fmt: skip
    sender.send([to], heartbeat(3))
    assert await listener.next() == 3
    sender.close()
    sender.send([to], heartbeat(4))  # never raises


async def test_sending_to_nobody_or_to_a_wrong_address_never_raises(listener: Listener) -> None:
    for address, port in (("127.0.0.1", 9), ("no address", 9), ("::1", 9)):
        to = Host(
            name="h2", address=address, role=Role.PRIMARY, ordinal=2, joined_at="", ports=Ports(heartbeat=port)
        )
        listener.udp.send([to], heartbeat())
        await asyncio.sleep(0)


async def test_forged_torn_replayed_and_older_boots_datagrams_are_dropped(listener: Listener) -> None:
    good = datagram(5, start=50)
    listener.inject(
        good,
        datagram(6, start=50, key=b"x" * 32),  # forged
        datagram(7, start=50)[:-3],  # torn
        b"",
        good,  # replayed
        datagram(4, start=50),  # late
        datagram(999, start=49),  # recorded in an earlier boot
        b"z" * (MAX_BYTES + 1),
        datagram(6, start=50),
        datagram(1, start=51),  # restarted agent
        datagram(7, start=50),
        datagram(2, start=51),
    )
    assert [await listener.next() for _ in range(4)] == [5, 6, 1, 2]
    assert listener.got.empty()
    assert listener.udp.rejected == 8
