"""Which certificates real etcd takes."""

import asyncio
import ssl
from pathlib import Path

import pytest

from tests.adapters.etcd.members_on_loopback import Running, Site
from zugvogel.adapters import pki
from zugvogel.adapters.etcd.gateway import EtcdRegistry
from zugvogel.adapters.peers.rpc_server import client_context
from zugvogel.errors import ZugvogelError


async def test_a_certificate_of_qemu_opens_neither_port_of_etcd(tmp_path: Path) -> None:
    site = Site(tmp_path)
    running = Running(site)
    try:
        own = await running.first()
        await own.put("a", b"1")
        await own.close()
        qemu = qemu_context(site)
        registry = EtcdRegistry(lambda: [site.specs["host1"].client_url], qemu)
        with pytest.raises(ZugvogelError):
            await registry.get("a")
        await registry.close()
        spec = site.specs["host1"]
        for port in (spec.client_port, spec.peer_port):
            assert await answer(spec.address, port, site.context())
            assert not await answer(spec.address, port, qemu)
    finally:
        await running.close()


def qemu_context(site: Site) -> ssl.SSLContext:
    ca, ca_key = pki.new_migration_ca("test")
    request, key = pki.new_request("host1")
    certificate, key_file = site.root / "qemu.crt", site.root / "qemu.key"
    certificate.write_bytes(pki.sign_for_qemu(request, "host1", "127.0.0.1", ca, ca_key))
    key_file.write_bytes(key)
    return client_context(str(certificate), str(key_file), str(site.specs["host1"].pki.ca_certificate))


async def answer(address: str, port: int, context: ssl.SSLContext) -> bytes:
    """To a plain request; nothing where TLS is broken off."""
    try:
        reader, writer = await asyncio.open_connection(address, port, ssl=context)
        writer.write(b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        found = await reader.read(1024)
        writer.close()
    except OSError:
        return b""
    return found
