"""The real command line against the real API on loopback TLS; only the cluster behind it is a fake."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.api.fake_backend import FakeBackend
from zugvogel.api.app import create_app
from zugvogel.cli import context as contexts
from zugvogel.cli import main as cli_main


@dataclass(frozen=True)
class Served:
    url: str
    ca_file: Path
    backend: FakeBackend


def _certificate(folder: Path) -> tuple[Path, Path]:
    """A CA-less, self-signed certificate of 127.0.0.1; that of the folder, where there is one."""
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    if cert_file.exists():
        return cert_file, key_file
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return cert_file, key_file


@contextlib.contextmanager
def serving(backend: FakeBackend, folder: Path) -> Iterator[Served]:
    """An agent's API on a port of its own until the block ends; then its address refuses connections."""
    cert, key = _certificate(folder)
    config = uvicorn.Config(
        create_app(backend, cert.read_text()),
        host="127.0.0.1",
        port=0,
        ssl_certfile=str(cert),
        ssl_keyfile=str(key),
        log_level="error",
        ws="websockets-sansio",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Served(f"https://127.0.0.1:{port}", cert, backend)
    finally:
        server.should_exit = True
        thread.join(timeout=10)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(FakeBackend(), tmp_path_factory.mktemp("tls")) as found:
        yield found


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Zv = Callable[..., Ran]


@pytest.fixture
def bare_zv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Zv:
    """`zv` of a user who has no context yet."""
    monkeypatch.setenv(contexts.FILE_VARIABLE, str(tmp_path / "contexts.toml"))
    monkeypatch.delenv(contexts.CONTEXT_VARIABLE, raising=False)

    def run(*arguments: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["zv", *arguments])
        code = 0
        try:
            cli_main.main()
        except SystemExit as end:
            code = int(end.code or 0)
        shown = capsys.readouterr()
        return Ran(code, shown.out, shown.err)

    return run


@pytest.fixture
def zv(bare_zv: Zv, served: Served) -> Zv:
    """`zv` of an admin of the fake cluster. The first address of the context answers nothing."""
    added = bare_zv(
        "context", "add", "test", "--url", f"https://127.0.0.1:1,{served.url}", "--token", "admin-token",
        "--ca", str(served.ca_file),
    )  # fmt: skip
    assert added.code == 0, added.err
    return bare_zv
