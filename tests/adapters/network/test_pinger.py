from __future__ import annotations

import socket
from pathlib import Path

import pytest

from zugvogel.adapters.network import pinger
from zugvogel.adapters.network.pinger import IcmpPinger, echo_request, gateway_of, gateway_of_ipv6, is_answer

V4, V6 = socket.AF_INET, socket.AF_INET6
HAS_IPV6 = Path("/proc/net/if_inet6").exists()
PAYLOAD = bytes(range(16))
IP_HEADER = b"\x46" + bytes(23)  # with an option: 24 bytes

HEAD = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
ROUTES = HEAD + (
    "eth1\t00000000\t0100A8C0\t0003\t0\t0\t200\t00000000\t0\t0\t0\n"
    "eth0\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
    "eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
)
ROUTES_IPV6 = "\n".join(
    f"{to} {bits} {'0' * 32} 00 {via} {metric} 00000001 00000000 {flags} eth0"
    for to, bits, via, metric, flags in (
        ("fe80" + "0" * 28, "40", "0" * 32, "00000100", "00000001"),
        ("0" * 32, "00", "fe80" + "0" * 27 + "1", "00000400", "00000003"),
        ("0" * 32, "00", "20010db8" + "0" * 23 + "1", "00000200", "00000003"),
        ("0" * 32, "00", "0" * 32, "ffffffff", "00200200"),
    )
)


def test_the_gateway_with_the_lowest_metric() -> None:
    assert gateway_of(ROUTES) == "192.0.2.1"
    assert gateway_of(HEAD) is None
    assert gateway_of("") is None
    assert gateway_of(ROUTES.replace("0003", "0001")) is None
    assert gateway_of_ipv6(ROUTES_IPV6) == "2001:db8::1"
    assert gateway_of_ipv6(ROUTES_IPV6.replace("00000200", "00000800")) == "fe80::1%eth0"
    assert gateway_of_ipv6("") is None


def test_ipv4_first_and_none_without_routes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pinger, "ROUTES", tmp_path / "route")
    monkeypatch.setattr(pinger, "ROUTES_IPV6", tmp_path / "ipv6_route")
    assert IcmpPinger().default_gateway() is None
    (tmp_path / "ipv6_route").write_text(ROUTES_IPV6)
    assert IcmpPinger().default_gateway() == "2001:db8::1"
    (tmp_path / "route").write_text(ROUTES)
    assert IcmpPinger().default_gateway() == "192.0.2.1"


def test_a_request_carries_its_payload_and_a_checksum_that_adds_up() -> None:
    request = echo_request(V4, PAYLOAD)
    total = sum(int.from_bytes(request[i : i + 2]) for i in range(0, len(request), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert (request[0], request[8:], total) == (8, PAYLOAD, 0xFFFF)
    assert echo_request(V6, PAYLOAD)[0] == 128


@pytest.mark.parametrize(
    ("family", "packet", "is_it"),
    [
        (V4, IP_HEADER + b"\0" * 8 + PAYLOAD, True),
        (V4, b"\0" * 8 + PAYLOAD, True),
        (V4, IP_HEADER + b"\x08" + b"\0" * 7 + PAYLOAD, False),  # our own request on loopback
        (V4, IP_HEADER + b"\0" * 8 + PAYLOAD[::-1], False),
        (V4, IP_HEADER + b"\x03" + b"\0" * 7 + IP_HEADER + echo_request(V4, PAYLOAD), False),  # unreachable
        (V4, b"", False),
        (V4, b"\x45", False),
        (V6, b"\x81" + b"\0" * 7 + PAYLOAD, True),
        (V6, b"\x80" + b"\0" * 7 + PAYLOAD, False),
    ],
)
def test_what_an_answer_is(family: int, packet: bytes, is_it: bool) -> None:
    assert is_answer(family, packet, PAYLOAD) is is_it


async def test_what_cannot_be_sent_to_does_not_answer() -> None:
    assert not await IcmpPinger().ping("no address", 1.0)
    assert not await IcmpPinger().ping("255.255.255.255", 1.0)


@pytest.mark.lab
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_this_host_answers(address: str) -> None:
    if ":" in address and not HAS_IPV6:
        pytest.skip("there is no IPv6 here")
    assert await IcmpPinger().ping(address, 5.0)


def open_files() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


@pytest.mark.lab
async def test_who_keeps_quiet_does_not_answer_and_nothing_stays_open() -> None:
    """An echo request to a multicast address is answered by nobody (net.ipv4.icmp_echo_ignore_broadcasts)."""
    before = open_files()
    assert not await IcmpPinger().ping("239.255.0.1", 0.2)
    assert open_files() == before
