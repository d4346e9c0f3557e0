"""Keys and certificates on a real disk; who can read them is tried as the user that would."""

import base64
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509

from zugvogel.adapters import pki
from zugvogel.adapters.pki import Pki
from zugvogel.bootstrap.cluster_init import init_cluster
from zugvogel.errors import InvalidInput

QEMU = 65534
OTHER = 65533
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def keys(tmp_path: Path) -> Pki:
    init_cluster(tmp_path / "etc", tmp_path / "var", cluster="birds", name="host1", address="192.0.2.11")
    return Pki(tmp_path / "var/pki")


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_the_two_cas_do_not_vouch_for_each_others_certificates(keys: Pki) -> None:
    cluster, migration = certificate(keys.ca_certificate), certificate(keys.migration_ca_certificate)
    certificate(keys.host_certificate).verify_directly_issued_by(cluster)
    certificate(keys.qemu_certificate).verify_directly_issued_by(migration)
    for wrong, ca in ((keys.qemu_certificate, cluster), (keys.host_certificate, migration)):
        with pytest.raises(ValueError, match="Issuer"):
            certificate(wrong).verify_directly_issued_by(ca)


def test_qemus_certificate_names_its_host_but_is_not_the_hosts(keys: Pki) -> None:
    host, qemu = certificate(keys.host_certificate), certificate(keys.qemu_certificate)
    assert host.public_key() != qemu.public_key()
    assert host.subject.rfc4514_string() == "CN=host1"
    assert qemu.subject.rfc4514_string() == "CN=qemu.host1"
    names = qemu.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["host1", "localhost"]
    assert "192.0.2.11" in map(str, names.get_values_for_type(x509.IPAddress))


def test_every_key_is_for_its_owner_only(keys: Pki) -> None:
    secrets = [keys.host_key, keys.qemu_key, keys.ca_key, keys.migration_ca_key, keys.heartbeat_key]
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets} == {0o600}


@AS_ROOT
def test_qemus_user_reads_its_own_files_and_no_others(keys: Pki) -> None:
    keys.provide_qemu(QEMU, QEMU)
    open_to_all(keys.directory)
    own = {
        *("ca-cert.pem", "server-cert.pem", "server-key.pem"),
        *("client-cert.pem", "client-key.pem", "dh-params.pem"),
    }
    assert {path.name for path in keys.qemu_directory.iterdir()} == own
    everything = [*keys.directory.glob("*.*"), *keys.qemu_directory.iterdir()]
    assert readable(QEMU, everything) == own
    assert readable(OTHER, everything) == set()
    assert (keys.qemu_directory / "server-key.pem").read_bytes() == keys.qemu_key.read_bytes()


@AS_ROOT
def test_qemus_user_cannot_put_a_link_where_root_writes(keys: Pki) -> None:
    for _start in range(2):
        keys.provide_qemu(QEMU, QEMU)
        open_to_all(keys.directory)
        assert as_user(QEMU, lambda: (keys.qemu_directory / "server-key.pem").unlink()) is PermissionError
        assert as_user(QEMU, lambda: (keys.qemu_directory / "x").symlink_to("/etc/shadow")) is PermissionError


def test_a_key_is_known_by_its_certificate(keys: Pki) -> None:
    assert pki.belong_together(keys.ca_certificate.read_bytes(), keys.ca_key.read_bytes())
    assert not pki.belong_together(keys.ca_certificate.read_bytes(), keys.migration_ca_key.read_bytes())
    with pytest.raises(InvalidInput):
        pki.belong_together(keys.ca_certificate.read_bytes(), b"noise")


def test_names_come_from_the_cluster_not_from_the_request(keys: Pki) -> None:
    request, _ = pki.new_request("host1")
    signed = pki.sign(request, "host2", "192.0.2.12", keys.ca_certificate.read_bytes(), keys.ca_key.read_bytes())
    found = x509.load_pem_x509_certificate(signed)
    assert found.subject.rfc4514_string() == "CN=host2"
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "host1" not in names.get_values_for_type(x509.DNSName)


def open_to_all(directory: Path) -> None:
    """pytest's own directories above are for root only."""
    for parent in directory.parents:
        if any("pytest" in each.name for each in (parent, *parent.parents)):
            parent.chmod(parent.stat().st_mode | 0o011)


def readable(uid: int, paths: list[Path]) -> set[str]:
    return {path.name for path in paths if as_user(uid, path.read_bytes) is None}


def as_user(uid: int, action: Callable[[], object]) -> type[OSError] | None:
    """What `action` raises when a process of that user does it."""
    pid = os.fork()
    if pid == 0:
        code = 2
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            action()
            code = 0
        except PermissionError:
            code = 1
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in {0, 1}
    return PermissionError if code else None


def test_qemu_need_not_make_a_group_of_its_own_at_every_start(keys: Pki) -> None:
    keys.provide_qemu(os.getuid(), os.getgid())
    lines = (keys.qemu_directory / "dh-params.pem").read_text().splitlines()
    assert (lines[0], lines[-1]) == ("-----BEGIN DH PARAMETERS-----", "-----END DH PARAMETERS-----")
    group = base64.b64decode("".join(lines[1:-1]))
    assert bytes.fromhex("ffffffffffffffffadf85458a2bb4a9aafdc5620273d3cf1") in group  # RFC 7919, A.1
