"""Client and server against each other, over real TLS on loopback."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from zugvogel import errors
from zugvogel.adapters.peers.rpc_client import HttpPeers
from zugvogel.adapters.peers.rpc_server import RunningServer, client_context, rpc_app, serve, server_context
from zugvogel.adapters.pki import Pki
from zugvogel.bootstrap.cluster_init import init_cluster
from zugvogel.domain.host import Host, Ports, Role


class Ca:
    """A throw-away CA that writes certificates for names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test ca")])
        self.ca = str(self._save("ca.crt", self._sign(self.name, self.key, is_ca=True)))

    def issue(self, name: str) -> tuple[str, str, str]:
        """(certificate, key, ca) files."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        crt = self._save(f"{name}.crt", self._sign(subject, key, is_ca=False, dns=name))
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        file = self.folder / f"{name}.key"
        file.write_bytes(pem)
        return str(crt), str(file), self.ca

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, is_ca: bool, dns: str = ""
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        )
        if dns:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(dns)]), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def _save(self, name: str, certificate: x509.Certificate) -> Path:
        file = self.folder / name
        file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return file


async def echo(payload: dict[str, Any]) -> dict[str, Any]:
    return {"echo": payload}


async def fail(payload: dict[str, Any]) -> dict[str, Any]:
    raise errors.from_code(payload["code"], "the cause", "the step")


async def crash(_payload: dict[str, Any]) -> dict[str, Any]:
    return {"x": 1 / 0}


async def hang(_payload: dict[str, Any]) -> dict[str, Any]:
    await asyncio.Event().wait()
    return {}


def anybody(_caller: str, _command: str) -> None:
    return


HANDLERS = {"echo": echo, "fail": fail, "crash": crash, "hang": hang}


def host(port: int, name: str = "h1") -> Host:
    return Host(name=name, address="127.0.0.1", role=Role.PRIMARY, ordinal=1, joined_at="", ports=Ports(rpc=port))


@pytest.fixture
def ca(tmp_path: Path) -> Ca:
    return Ca(tmp_path / "ca")


@pytest.fixture
async def server(ca: Ca) -> AsyncIterator[RunningServer]:
    running = await serve(
        rpc_app(HANDLERS, anybody), "127.0.0.1", 0, server_context(*ca.issue("h1"), is_mutual=True)
    )
    yield running
    await running.stop()


@pytest.fixture
async def peers(ca: Ca) -> AsyncIterator[HttpPeers]:
    made = HttpPeers("h2", client_context(*ca.issue("h2")))
    yield made
    await made.close()


async def test_an_answer_comes_back(server: RunningServer, peers: HttpPeers) -> None:
    payload = {"a": [1, "ü"], "big": "x" * 200_000}
    assert await peers.call(host(server.port), "echo", payload) == {"echo": payload}


async def test_answers_do_not_wait_for_acknowledgements(server: RunningServer, peers: HttpPeers) -> None:
    await peers.call(host(server.port), "echo", {})
    (connection,) = server._server.server_state.connections
    accepted = connection.transport.get_extra_info("socket")
    assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_calls_at_once_do_not_disturb_each_other(server: RunningServer, peers: HttpPeers) -> None:
    answers = await asyncio.gather(*(peers.call(host(server.port), "echo", {"n": n}) for n in range(30)))
    assert [answer["echo"]["n"] for answer in answers] == list(range(30))


@pytest.mark.parametrize("code", sorted(errors._tree(errors.ZugvogelError)))
async def test_every_error_crosses_the_wire_as_its_class(
    server: RunningServer, peers: HttpPeers, code: str
) -> None:
    expected = errors._tree(errors.ZugvogelError)[code]
    with pytest.raises(expected) as raised:
        await peers.call(host(server.port), "fail", {"code": code})
    assert type(raised.value) is expected
    assert (raised.value.cause, raised.value.next_step) == ("the cause", "the step")


async def test_a_crash_in_a_handler_is_a_failure_with_its_cause(server: RunningServer, peers: HttpPeers) -> None:
    with pytest.raises(errors.ZugvogelError, match="crash failed on the peer: ZeroDivisionError"):
        await peers.call(host(server.port), "crash", {})


async def test_an_unknown_command_is_not_found(server: RunningServer, peers: HttpPeers) -> None:
    with pytest.raises(errors.NotFound, match="POST /rpc/none"):
        await peers.call(host(server.port), "none", {})


async def test_no_answer_in_time_is_a_deadline(server: RunningServer, peers: HttpPeers) -> None:
    with pytest.raises(errors.DeadlineExceeded):
        await peers.call(host(server.port), "hang", {}, timeout_s=0.1)
    assert await peers.call(host(server.port), "echo", {}) == {"echo": {}}


async def test_nobody_listening_is_unreachable(peers: HttpPeers) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(errors.Unreachable, match="h1 cannot be reached") as raised:
            await peers.call(host(free.getsockname()[1]), "echo", {})
    assert type(raised.value) is errors.Unreachable


async def test_a_stopped_and_restarted_server_is_reached_again(ca: Ca, peers: HttpPeers) -> None:
    context = server_context(*ca.issue("h1"), is_mutual=True)
    first = await serve(rpc_app(HANDLERS, anybody), "127.0.0.1", 0, context)
    to = host(first.port)
    await peers.call(to, "echo", {})
    await first.stop()
    with pytest.raises(errors.Unreachable):
        await peers.call(to, "echo", {})
    second = await serve(rpc_app(HANDLERS, anybody), "127.0.0.1", to.ports.rpc, context)
    assert await peers.call(to, "echo", {}) == {"echo": {}}
    await second.stop()


async def test_a_caller_of_another_ca_or_without_certificate_gets_nothing(
    server: RunningServer, ca: Ca, tmp_path: Path
) -> None:
    crt, key, _ = Ca(tmp_path / "other").issue("h2")
    bare = ssl.create_default_context(cafile=ca.ca)
    for context in (client_context(crt, key, ca.ca), bare):
        stranger = HttpPeers("h2", context)
        with pytest.raises(errors.Unreachable):
            await stranger.call(host(server.port), "echo", {})
        await stranger.close()


async def test_a_peer_with_another_hosts_certificate_is_not_believed(
    server: RunningServer, peers: HttpPeers
) -> None:
    with pytest.raises(errors.Unreachable, match=r"h9.*certificate"):
        await peers.call(host(server.port, "h9"), "echo", {})


async def test_bodies_that_are_no_json_object_are_refused(server: RunningServer, ca: Ca) -> None:
    async with httpx.AsyncClient(verify=client_context(*ca.issue("h3")), trust_env=False) as client:
        for body in (b"{", b"[]", b"\xff"):
            answer = await client.post(
                f"https://127.0.0.1:{server.port}/rpc/echo", content=body, extensions={"sni_hostname": "h1"}
            )
            assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid-input")


async def test_a_taken_port_is_told_plainly(server: RunningServer) -> None:
    with pytest.raises(errors.ZugvogelError, match=f"port {server.port}: Address already in use"):
        await serve(rpc_app({}, anybody), "127.0.0.1", server.port, None)


class Members:
    """The hosts that may call; `asked` are the questions."""

    def __init__(self, *names: str) -> None:
        self.names = set(names)
        self.asked: list[tuple[str, str]] = []

    def admit(self, caller: str, command: str) -> None:
        self.asked.append((caller, command))
        if caller not in self.names:
            raise errors.Forbidden(f"{caller} is not a host of this cluster")


@contextlib.asynccontextmanager
async def guarded(ca: Ca, members: Members) -> AsyncIterator[RunningServer]:
    context = server_context(*ca.issue("h1"), is_mutual=True)
    running = await serve(rpc_app(HANDLERS, members.admit), "127.0.0.1", 0, context)
    yield running
    await running.stop()


async def test_a_removed_host_is_refused_even_on_the_connection_it_has(ca: Ca, peers: HttpPeers) -> None:
    members = Members("h1", "h2")
    async with guarded(ca, members) as server:
        await peers.call(host(server.port), "echo", {})
        connections = set(server._server.server_state.connections)
        members.names.remove("h2")
        with pytest.raises(errors.Forbidden, match="h2 is not a host"):
            await peers.call(host(server.port), "echo", {})
        assert set(server._server.server_state.connections) == connections
    assert members.asked == [("h2", "echo")] * 2


async def test_who_calls_is_what_the_certificate_says_not_what_the_request_says(ca: Ca) -> None:
    stranger = HttpPeers("h2", client_context(*ca.issue("stranger")))
    async with guarded(ca, Members("h1", "h2")) as server:
        with pytest.raises(errors.Forbidden, match="stranger is not a host"):
            await stranger.call(host(server.port), "echo", {"caller": "h2", "zugvogel.caller": "h2"})
        await stranger.close()


async def test_without_a_certificate_nobody_calls_even_where_tls_lets_them_in(ca: Ca) -> None:
    context = server_context(*ca.issue("h1"), is_mutual=False)
    members = Members("h1", "h2", "")
    running = await serve(rpc_app(HANDLERS, members.admit), "127.0.0.1", 0, context)
    peers = HttpPeers("h2", client_context(*ca.issue("h2")))
    with pytest.raises(errors.Forbidden, match="names no host"):
        await peers.call(host(running.port), "echo", {})
    await peers.close()
    await running.stop()
    assert members.asked == []


async def test_a_certificate_of_qemu_does_not_open_rpc(tmp_path: Path) -> None:
    keys = founded(tmp_path)
    ca = str(keys.ca_certificate)
    own = str(keys.host_certificate), str(keys.host_key), ca
    qemus = str(keys.qemu_certificate), str(keys.qemu_key), ca
    running = await serve(rpc_app(HANDLERS, anybody), "127.0.0.1", 0, server_context(*own, is_mutual=True))
    peers = HttpPeers("h1", client_context(*own))
    assert await peers.call(host(running.port), "echo", {}) == {"echo": {}}
    intruder = HttpPeers("h1", client_context(*qemus))
    with pytest.raises(errors.Unreachable):
        await intruder.call(host(running.port), "echo", {})
    for client in (peers, intruder):
        await client.close()
    await running.stop()


def founded(root: Path) -> Pki:
    """Keys as `zv cluster init` writes them."""
    init_cluster(root / "etc", root / "var", cluster="birds", name="h1", address="127.0.0.1")
    return Pki(root / "var/pki")
