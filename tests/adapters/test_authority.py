"""The authority over real files."""

import stat
from pathlib import Path

import pytest

from zugvogel.adapters import pki
from zugvogel.adapters.authority import FileAuthority
from zugvogel.adapters.pki import Pki
from zugvogel.bootstrap.cluster_init import init_cluster
from zugvogel.domain.requests import CaKeys
from zugvogel.errors import InvalidInput, Refused


def founded(root: Path) -> Pki:
    init_cluster(root / "etc", root / "var", cluster="birds", name="host1", address="192.0.2.11")
    return Pki(root / "var/pki")


@pytest.fixture
def files(tmp_path: Path) -> Pki:
    return founded(tmp_path / "a")


def without_keys(files: Pki) -> tuple[FileAuthority, CaKeys]:
    authority = FileAuthority(files)
    keys = authority.keys()
    assert keys is not None
    files.ca_key.unlink()
    files.migration_ca_key.unlink()
    return authority, keys


def test_keys_that_arrive_later_sign_from_then_on(files: Pki) -> None:
    authority, keys = without_keys(files)
    request, _ = pki.new_request("host2")
    for sign in (authority.sign, authority.sign_for_qemu):
        with pytest.raises(Refused, match="does not have the CA's keys"):
            sign(request, "host2", "192.0.2.12")
    authority.take_keys(keys)
    assert authority.keys() == keys
    assert authority.sign(request, "host2", "192.0.2.12") != authority.sign_for_qemu(
        request, "host2", "192.0.2.12"
    )
    assert {stat.S_IMODE(f.stat().st_mode) for f in (files.ca_key, files.migration_ca_key)} == {0o600}


def test_one_key_of_two_is_none(files: Pki) -> None:
    files.migration_ca_key.unlink()
    assert FileAuthority(files).keys() is None


def test_keys_of_another_cluster_are_not_kept(files: Pki, tmp_path: Path) -> None:
    authority, keys = without_keys(files)
    foreign = FileAuthority(founded(tmp_path / "b")).keys()
    assert foreign is not None
    swapped = CaKeys(ca_key_pem=keys.migration_ca_key_pem, migration_ca_key_pem=keys.ca_key_pem)
    noise = CaKeys(ca_key_pem="x", migration_ca_key_pem="y")
    for wrong in (foreign, swapped, noise):
        with pytest.raises(InvalidInput):
            authority.take_keys(wrong)
    assert not files.ca_key.exists()
    assert not files.migration_ca_key.exists()
