"""The cluster's certificates: two CAs, two certificates a host, and the directory QEMU's TLS reads.

The cluster CA signs the hosts' own certificates: RPC, etcd and the API. The migration CA signs QEMU's, and only
QEMU trusts it. So a guest that broke out of QEMU has no key that RPC or etcd would take: not by a rule about
names, which somebody could forget, but because the chain does not verify.

EC P-256, SHA-256. A certificate is good for server and client use (etcd's gateway and a migration need both) and
names the host and its address.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from zugvogel.errors import InvalidInput

CA_YEARS, HOST_YEARS = 20, 10
_BACKDATE = timedelta(days=1)
"""Hosts' clocks may differ; a certificate made now must be valid on all of them."""
_FFDHE2048 = b"""\
-----BEGIN DH PARAMETERS-----
MIIBCAKCAQEA//////////+t+FRYortKmq/cViAnPTzx2LnFg84tNpWp4TZBFGQz
+8yTnc4kmz75fS/jY2MMddj2gbICrsRhetPfHtXV/WVhJDP1H18GbtCFY2VVPe0a
87VXE15/V8k1mE8McODmi3fipona8+/och3xWKE2rec1MKzKT0g6eXq8CrGCsyT7
YdEIqUuyyOP7uWrat2DX9GgdT0Kj3jlN9K5W7edjcrsZCwenyO4KbXCeAvzhzffi
7MA0BM0oNC9hkXL+nOmFg/+OTxIy7vKBg8P+OxtMb61zO7X8vC7CIAXFjvGDfRaD
ssbzSibBsu/6iGtCOGEoXJf//////////wIBAg==
-----END DH PARAMETERS-----
"""
"""The group of RFC 7919. Without such a file QEMU makes its own at every start, which takes a third of a second of
a core, in every move; TLS 1.3 between two QEMUs agrees on an elliptic curve and does not use it."""


@dataclass(frozen=True, slots=True)
class Pki:
    """Paths of a host's key material."""

    directory: Path

    @property
    def ca_certificate(self) -> Path:
        return self.directory / "ca.crt"

    @property
    def ca_key(self) -> Path:
        """Primaries only."""
        return self.directory / "ca.key"

    @property
    def host_certificate(self) -> Path:
        return self.directory / "host.crt"

    @property
    def host_key(self) -> Path:
        return self.directory / "host.key"

    @property
    def heartbeat_key(self) -> Path:
        return self.directory / "heartbeat.key"

    @property
    def migration_ca_certificate(self) -> Path:
        return self.directory / "migration-ca.crt"

    @property
    def migration_ca_key(self) -> Path:
        """Primaries only."""
        return self.directory / "migration-ca.key"

    @property
    def qemu_certificate(self) -> Path:
        return self.directory / "qemu.crt"

    @property
    def qemu_key(self) -> Path:
        return self.directory / "qemu.key"

    @property
    def qemu_directory(self) -> Path:
        return self.directory / "qemu"

    def provide_qemu(self, uid: int, gid: int) -> None:
        """QEMU's certificate and key under the file names it wants, readable by its user and by nobody else.

        The directory stays root's: in one of its own, QEMU could put a link where root writes next."""
        self.directory.parent.chmod(0o711)
        self.directory.chmod(0o711)
        self.qemu_directory.mkdir(exist_ok=True)
        self.qemu_directory.chmod(0o711)
        certificate, key = self.qemu_certificate.read_bytes(), self.qemu_key.read_bytes()
        for name, data in {
            "ca-cert.pem": self.migration_ca_certificate.read_bytes(),
            "server-cert.pem": certificate,
            "server-key.pem": key,
            "client-cert.pem": certificate,
            "client-key.pem": key,
            "dh-params.pem": _FFDHE2048,
        }.items():
            write_secret(self.qemu_directory / name, data, owner=(uid, gid))


def write_secret(path: Path, data: bytes, *, owner: tuple[int, int] | None = None) -> None:
    """Atomically, mode 0600, of this process's user or of `owner` (uid, gid)."""
    temporary = path.with_name(f".{path.name}.new")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as file:
        if owner is not None:
            os.fchown(fd, *owner)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def new_ca(cluster: str) -> tuple[bytes, bytes]:
    """The cluster CA: (certificate, key), PEM."""
    return _new_ca(f"zugvogel cluster {cluster}")


def new_migration_ca(cluster: str) -> tuple[bytes, bytes]:
    """The CA that only QEMUs trust: (certificate, key), PEM."""
    return _new_ca(f"zugvogel migrations of {cluster}")


def _new_ca(common_name: str) -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    public = key.public_key()
    certificate = (
        _builder(name, name, public, CA_YEARS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM), _key_pem(key)


def new_request(host: str) -> tuple[bytes, bytes]:
    """(signing request, key), PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM), _key_pem(key)


def sign(request_pem: bytes, host: str, address: str, ca_pem: bytes, ca_key_pem: bytes) -> bytes:
    """The host's certificate; its common name is the host's name, by which RPC knows its caller. Names come
    from the cluster's word, never from the request itself. Raises InvalidInput."""
    return _sign(request_pem, host, host, address, ca_pem, ca_key_pem)


def sign_for_qemu(request_pem: bytes, host: str, address: str, ca_pem: bytes, ca_key_pem: bytes) -> bytes:
    """The certificate of the host's QEMUs, by the migration CA. It has the names a migration verifies, and a
    common name that is no host's. Raises InvalidInput."""
    return _sign(request_pem, f"qemu.{host}", host, address, ca_pem, ca_key_pem)


def _sign(
    request_pem: bytes, common_name: str, host: str, address: str, ca_pem: bytes, ca_key_pem: bytes
) -> bytes:
    try:
        request = x509.load_pem_x509_csr(request_pem)
        if not request.is_signature_valid:
            raise ValueError("its signature is wrong")
        own_address = ipaddress.ip_address(address)
    except ValueError as error:
        raise InvalidInput(f"the signing request of {host} cannot be used: {error}") from error
    ca = x509.load_pem_x509_certificate(ca_pem)
    ca_key = serialization.load_pem_private_key(ca_key_pem, None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
    public = request.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    names = x509.SubjectAlternativeName(
        [
            x509.DNSName(host),
            x509.DNSName("localhost"),
            x509.IPAddress(own_address),
            x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        ]
    )
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate = (
        _builder(subject, ca.subject, public, HOST_YEARS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(names, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


def belong_together(certificate_pem: bytes, key_pem: bytes) -> bool:
    """Whether `key_pem` is the private key of the certificate. Raises InvalidInput for what is neither."""
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        key = serialization.load_pem_private_key(key_pem, None)
    except (ValueError, TypeError) as error:
        raise InvalidInput(f"no certificate or no key: {error}") from error
    return certificate.public_key() == key.public_key()


def fingerprint(certificate_pem: bytes) -> str:
    """SHA-256 of the certificate, hex."""
    try:
        der = x509.load_pem_x509_certificate(certificate_pem).public_bytes(serialization.Encoding.DER)
    except ValueError as error:
        raise InvalidInput(f"no certificate: {error}") from error
    return hashlib.sha256(der).hexdigest()


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, years: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(now + timedelta(days=365 * years))
    )


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=not sign_certificates,
        data_encipherment=False,
        key_agreement=not sign_certificates,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
