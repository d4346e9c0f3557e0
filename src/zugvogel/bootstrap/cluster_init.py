"""`zv cluster init` and `zv host join`: make this host a member. Either all of it is written, or nothing
that counts: ``agent.toml`` is written last, and without it a host is of no cluster."""

from __future__ import annotations

import hashlib
import secrets
import ssl
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from zugvogel.adapters import pki
from zugvogel.adapters.authority import FileAuthority
from zugvogel.adapters.host_state import AgentConfig, HostState, Initial
from zugvogel.domain.cluster import Access, Cluster, Token
from zugvogel.domain.host import Host, Ports, Role
from zugvogel.domain.requests import JoinAnswer, JoinRequest
from zugvogel.errors import Forbidden, InvalidInput, Refused, Unreachable, from_code
from zugvogel.http import httpx

API = "/api/v1"
TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class InitResult:
    admin_token: str
    ca_pem: str


def init_cluster(
    config_dir: Path, state_dir: Path, *, cluster: str, name: str, address: str, ports: Ports | None = None
) -> InitResult:
    """Begin a cluster with this host as its first primary. Raises Refused where it is a member already."""
    state = _fresh(config_dir, state_dir)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    ports = ports or Ports()
    secret, token_id = secrets.token_urlsafe(32), secrets.token_hex(4)
    initial = Initial(
        cluster=Cluster(id=str(uuid.uuid4()), name=cluster, created_at=now),
        host=Host(name=name, address=address, role=Role.PRIMARY, ordinal=1, joined_at=now, ports=ports),
        token=Token(
            id=token_id,
            access=Access.ADMIN,
            secret_sha256=hashlib.sha256(secret.encode()).hexdigest(),
            description="made by zv cluster init",
            created_at=now,
        ),
    )
    ca_pem = _write_first_keys(state, cluster, name, address)
    state.save_initial(initial)
    state.save_hosts([initial.host])
    state.save_config(AgentConfig(name=name, address=address, cluster=cluster, joined_at=now, ports=ports))
    return InitResult(f"{token_id}.{secret}", ca_pem.decode())


def _write_first_keys(state: HostState, cluster: str, name: str, address: str) -> bytes:
    """Both CAs, the heartbeat key, this host's keys and certificates. Returns the cluster CA."""
    keys = state.pki
    ca, ca_key = pki.new_ca(cluster)
    migration_ca, migration_ca_key = pki.new_migration_ca(cluster)
    request, host_key = pki.new_request(name)
    qemu_request, qemu_key = pki.new_request(name)
    _write(
        state,
        {
            keys.ca_certificate: ca,
            keys.ca_key: ca_key,
            keys.host_certificate: pki.sign(request, name, address, ca, ca_key),
            keys.host_key: host_key,
            keys.migration_ca_certificate: migration_ca,
            keys.migration_ca_key: migration_ca_key,
            keys.qemu_certificate: pki.sign_for_qemu(qemu_request, name, address, migration_ca, migration_ca_key),
            keys.qemu_key: qemu_key,
            keys.heartbeat_key: secrets.token_hex(32).encode(),
        },
    )
    return ca


def join_cluster(
    config_dir: Path,
    state_dir: Path,
    *,
    url: str,
    token: str,
    name: str,
    address: str,
    ports: Ports | None = None,
) -> None:
    """Join the cluster at `url` with a one-time token ``<id>.<secret>.<CA fingerprint>``."""
    state = _fresh(config_dir, state_dir)
    parts = token.strip().split(".")
    if len(parts) != 3 or len(parts[2]) != 64:
        raise InvalidInput("this is no join token", "make one on a member: zv token join")
    ca_pem = _trusted_ca(url.rstrip("/"), parts[2])
    request, key = pki.new_request(name)
    qemu_request, qemu_key = pki.new_request(name)
    wish = JoinRequest(
        token=token.strip(),
        name=name,
        address=address,
        csr_pem=request.decode(),
        qemu_csr_pem=qemu_request.decode(),
        ports=ports or Ports(),
    )
    answer = _ask_to_join(url.rstrip("/"), ca_pem, wish)
    host = Host.model_validate_json(answer.host_json)
    _write_given_keys(state, answer, key, qemu_key)
    state.save_hosts([Host.model_validate_json(h) for h in answer.hosts_json])
    state.save_config(
        AgentConfig(
            name=name,
            address=address,
            cluster=answer.cluster_name,
            joined_at=host.joined_at,
            ports=host.ports,
        )
    )


def _fresh(config_dir: Path, state_dir: Path) -> HostState:
    state = HostState(config_dir, state_dir)
    if state.is_member:
        raise Refused(
            f"this host is a member of cluster {state.load_config().cluster} already",
            f"to begin anew remove it there, then delete {state.config_file} and {state.state_dir}",
        )
    return state


def _write_given_keys(state: HostState, answer: JoinAnswer, host_key: bytes, qemu_key: bytes) -> None:
    keys = state.pki
    _write(
        state,
        {
            keys.ca_certificate: answer.ca_pem.encode(),
            keys.host_certificate: answer.certificate_pem.encode(),
            keys.host_key: host_key,
            keys.migration_ca_certificate: answer.migration_ca_pem.encode(),
            keys.qemu_certificate: answer.qemu_certificate_pem.encode(),
            keys.qemu_key: qemu_key,
            keys.heartbeat_key: answer.heartbeat_key_hex.encode(),
        },
    )
    if answer.ca_keys is not None:
        FileAuthority(keys).take_keys(answer.ca_keys)


def _write(state: HostState, files: dict[Path, bytes]) -> None:
    state.make_directories()
    for path, data in files.items():
        pki.write_secret(path, data)


def _trusted_ca(url: str, fingerprint: str) -> bytes:
    """The cluster's CA, fetched unverified and held against the token's fingerprint."""
    try:
        answer = httpx.get(f"{url}{API}/ca", verify=False, timeout=TIMEOUT_S, trust_env=False)
    except httpx.HTTPError as error:
        raise Unreachable(
            f"{url} does not answer: {error}", "is its agent running, and the address right?"
        ) from error
    if pki.fingerprint(answer.content) != fingerprint:
        raise Forbidden(f"{url} is not the cluster that made this token", "check the URL, or make a new token")
    return answer.content


def _ask_to_join(url: str, ca_pem: bytes, wish: JoinRequest) -> JoinAnswer:
    trust = ssl.create_default_context(cadata=ca_pem.decode())
    try:
        answer = httpx.post(
            f"{url}{API}/join", json=wish.model_dump(mode="json"), verify=trust, timeout=TIMEOUT_S, trust_env=False
        )
    except httpx.HTTPError as error:
        raise Unreachable(f"{url} did not answer the join: {error}", "make a new token and try again") from error
    if answer.is_error:
        told = answer.json().get("error", {})
        raise from_code(told.get("code", "failed"), told.get("cause", answer.text), told.get("next_step", ""))
    return JoinAnswer.model_validate(answer.json())
