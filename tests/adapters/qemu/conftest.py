"""Real QEMUs without disks: SeaBIOS runs, finds nothing to boot and waits."""

from __future__ import annotations

import datetime
import pwd
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from zugvogel.adapters.network.taps import HostTaps
from zugvogel.adapters.qemu.hypervisor import QemuHypervisor
from zugvogel.adapters.unix_user import UnixUser
from zugvogel.domain.vm import Display, VmDefinition
from zugvogel.ports.hypervisor import Machine, MachineSpec

TLS_NAME = "host2"
Spawn = Callable[[QemuHypervisor, MachineSpec], Awaitable[Machine]]


@pytest.fixture
def root() -> Iterator[Path]:
    """Short, because UNIX socket paths are; open to QEMU's user."""
    path = Path(tempfile.mkdtemp(prefix="zvq"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def spawn() -> AsyncIterator[Spawn]:
    """Spawns machines and kills what is left of them."""
    made: list[Machine] = []

    async def start(hypervisor: QemuHypervisor, spec: MachineSpec) -> Machine:
        made.append(await hypervisor.spawn(spec))
        return made[-1]

    yield start
    for machine in made:
        if machine.is_alive:
            await machine.kill()


def host(root: Path, name: str, tls: Path | None = None) -> QemuHypervisor:
    nobody = pwd.getpwnam("nobody")
    return QemuHypervisor(
        run_dir=root / name / "run",
        log_dir=root / name / "log",
        user=UnixUser("nobody", nobody.pw_uid, nobody.pw_gid),
        network=HostTaps(),
        tls_directory=tls,
    )


def firmware_vm(
    root: Path,
    *,
    incoming: bool = False,
    is_preallocated: bool = False,
    machine: str = "pc-q35-7.2",
    display: Display = "none",
) -> MachineSpec:
    definition = VmDefinition(
        name="fw1",
        uuid="8f7f9d3c-6a3c-4b0e-9a54-3c8f6e3a5d11",
        memory_bytes=64 << 20,
        cpus=1,
        machine=machine,
        cpu_model="x86-64-v2",
        display=display,
    )
    return MachineSpec(definition, root, (), incoming, is_preallocated, {"epoch": 7})


def make_certificates(directory: Path) -> Path:
    """A CA and one certificate for both ends, named `TLS_NAME`."""
    directory.mkdir()
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca = _certificate("test CA", ca_key.public_key(), "test CA", ca_key, is_ca=True)
    pair = _certificate(TLS_NAME, key.public_key(), "test CA", ca_key, is_ca=False)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (directory / "ca-cert.pem").write_bytes(ca)
    for end in ("server", "client"):
        (directory / f"{end}-cert.pem").write_bytes(pair)
        (directory / f"{end}-key.pem").write_bytes(private)
    return directory


def _certificate(
    name: str, key: ec.EllipticCurvePublicKey, issuer: str, issuer_key: ec.EllipticCurvePrivateKey, *, is_ca: bool
) -> bytes:
    now = datetime.datetime.now(datetime.UTC)
    usage = x509.KeyUsage(
        digital_signature=not is_ca,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        content_commitment=False,
        key_encipherment=not is_ca,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(usage, critical=True)
    )
    if not is_ca:
        both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(both), critical=False).add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False
        )
    return builder.sign(issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
