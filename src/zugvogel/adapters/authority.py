"""Who signs certificates: this host's files of the two CAs, with the keys on primaries only."""

from __future__ import annotations

import time

from zugvogel.adapters import pki
from zugvogel.adapters.pki import Pki
from zugvogel.domain.requests import CaKeys
from zugvogel.errors import InvalidInput, Refused


class FileAuthority:
    """`zugvogel.services.membership.Authority`. Files are read at each use: keys may arrive while it lives."""

    def __init__(self, files: Pki) -> None:
        self._files = files

    def keys(self) -> CaKeys | None:
        """None where one of the two is missing."""
        try:
            return CaKeys(
                ca_key_pem=self._files.ca_key.read_text(),
                migration_ca_key_pem=self._files.migration_ca_key.read_text(),
            )
        except FileNotFoundError:
            return None

    def take_keys(self, keys: CaKeys) -> None:
        """Kept on disk, for root only. Raises InvalidInput for keys that are not those of this cluster's CAs."""
        ca, migration_ca = keys.ca_key_pem.encode(), keys.migration_ca_key_pem.encode()
        fits = pki.belong_together(self._files.ca_certificate.read_bytes(), ca) and pki.belong_together(
            self._files.migration_ca_certificate.read_bytes(), migration_ca
        )
        if not fits:
            raise InvalidInput("the CA keys that came do not belong to this cluster's CAs")
        pki.write_secret(self._files.ca_key, ca)
        pki.write_secret(self._files.migration_ca_key, migration_ca)

    def drop_keys(self) -> None:
        """From disk, for good."""
        for key in (self._files.ca_key, self._files.migration_ca_key):
            key.unlink(missing_ok=True)

    def sign(self, request_pem: bytes, host: str, address: str) -> bytes:
        ca = self._files.ca_certificate.read_bytes()
        return pki.sign(request_pem, host, address, ca, self._keys().ca_key_pem.encode())

    def sign_for_qemu(self, request_pem: bytes, host: str, address: str) -> bytes:
        ca = self._files.migration_ca_certificate.read_bytes()
        return pki.sign_for_qemu(request_pem, host, address, ca, self._keys().migration_ca_key_pem.encode())

    def _keys(self) -> CaKeys:
        keys = self.keys()
        if keys is None:
            raise Refused("this host does not have the CA's keys", "ask a primary: zv host list")
        return keys

    @property
    def ca_pem(self) -> str:
        return self._files.ca_certificate.read_text()

    @property
    def migration_ca_pem(self) -> str:
        return self._files.migration_ca_certificate.read_text()

    @property
    def fingerprint(self) -> str:
        return pki.fingerprint(self.ca_pem.encode())

    @property
    def heartbeat_key_hex(self) -> str:
        return self._files.heartbeat_key.read_text().strip()

    def unix_time(self) -> float:
        return time.time()
