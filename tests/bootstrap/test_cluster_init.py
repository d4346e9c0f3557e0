"""`zv cluster init` and `zv host join` over real HTTPS on loopback."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from zugvogel.adapters import pki
from zugvogel.adapters.authority import FileAuthority
from zugvogel.adapters.host_state import HostState
from zugvogel.adapters.peers.rpc_server import serve, server_context
from zugvogel.bootstrap.cluster_init import init_cluster, join_cluster
from zugvogel.domain.host import Host, Role
from zugvogel.domain.requests import JoinAnswer, JoinRequest
from zugvogel.errors import Forbidden, Refused

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


def state(root: Path) -> HostState:
    return HostState(root / "etc", root / "var")


def found(root: Path) -> HostState:
    init_cluster(root / "etc", root / "var", cluster="birds", name="host1", address="127.0.0.1")
    return state(root)


class Door:
    """The two routes of the API that a joining host uses; every token is good."""

    def __init__(self, founder: HostState, role: Role) -> None:
        self._founder = founder
        self._role = role

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["path"].endswith("/ca"):
            body = self._founder.pki.ca_certificate.read_bytes()
        else:
            body = self._join(JoinRequest.model_validate_json((await receive())["body"]))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    def _join(self, wish: JoinRequest) -> bytes:
        authority = FileAuthority(self._founder.pki)
        host = Host(name=wish.name, address=wish.address, role=self._role, ordinal=2, joined_at="")
        answer = JoinAnswer(
            cluster_name="birds",
            host_json=host.model_dump_json(),
            hosts_json=(host.model_dump_json(),),
            ca_pem=authority.ca_pem,
            certificate_pem=authority.sign(wish.csr_pem.encode(), wish.name, wish.address).decode(),
            migration_ca_pem=authority.migration_ca_pem,
            qemu_certificate_pem=authority.sign_for_qemu(
                wish.qemu_csr_pem.encode(), wish.name, wish.address
            ).decode(),
            heartbeat_key_hex=authority.heartbeat_key_hex,
            ca_keys=authority.keys() if self._role is Role.PRIMARY else None,
        )
        return json.dumps(answer.model_dump(mode="json")).encode()


async def join(root: Path, founder: HostState, role: Role, fingerprint: str) -> HostState:
    keys = founder.pki
    context = server_context(str(keys.host_certificate), str(keys.host_key), is_mutual=False)
    server = await serve(Door(founder, role), "127.0.0.1", 0, context)
    try:
        await asyncio.to_thread(
            join_cluster,
            root / "etc",
            root / "var",
            url=f"https://127.0.0.1:{server.port}",
            token=f"t.s.{fingerprint}",
            name="host2",
            address="192.0.2.12",
        )
    finally:
        await server.stop()
    return state(root)


@pytest.mark.parametrize("role", list(Role))
async def test_a_joined_host_has_both_certificates_and_a_primary_the_cas_keys(tmp_path: Path, role: Role) -> None:
    founder = found(tmp_path / "1")
    fingerprint = FileAuthority(founder.pki).fingerprint
    joined = (await join(tmp_path / "2", founder, role, fingerprint)).pki
    for certificate, key, ca in (
        (joined.host_certificate, joined.host_key, founder.pki.ca_certificate),
        (joined.qemu_certificate, joined.qemu_key, founder.pki.migration_ca_certificate),
    ):
        assert pki.belong_together(certificate.read_bytes(), key.read_bytes())
        issuer = x509.load_pem_x509_certificate(ca.read_bytes())
        x509.load_pem_x509_certificate(certificate.read_bytes()).verify_directly_issued_by(issuer)
    assert (FileAuthority(joined).keys() is not None) is (role is Role.PRIMARY)
    assert joined.heartbeat_key.read_text() == founder.pki.heartbeat_key.read_text()


async def test_a_cluster_with_another_ca_than_the_tokens_gets_no_host(tmp_path: Path) -> None:
    founder = found(tmp_path / "1")
    with pytest.raises(Forbidden, match="is not the cluster that made this token"):
        await join(tmp_path / "2", founder, Role.PRIMARY, "0" * 64)
    assert not state(tmp_path / "2").is_member


def test_a_member_begins_no_second_cluster(tmp_path: Path) -> None:
    founder = found(tmp_path)
    before = founder.pki.ca_certificate.read_bytes()
    with pytest.raises(Refused, match="is a member of cluster birds already"):
        found(tmp_path)
    assert founder.pki.ca_certificate.read_bytes() == before
