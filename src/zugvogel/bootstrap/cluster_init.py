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

import httpx

from zugvogel.adapters import pki
from zugvogel.adapters.host_state import AgentConfig, HostState, Initial
from zugvogel.domain.cluster import Access, Cluster, Token
from zugvogel.domain.host import Host, Ports, Role
from zugvogel.domain.requests import JoinAnswer, JoinRequest
from zugvogel.errors import Forbidden, InvalidInput, Refused, Unreachable, from_code

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
    ca_pem, ca_key = pki.new_ca(cluster)
    request, key = pki.new_request(name)
    certificate = pki.sign(request, name, address, ca_pem, ca_key)
    _write_keys(state, ca_pem, certificate, key, secrets.token_hex(32), ca_key)
    state.save_initial(initial)
    state.save_hosts([initial.host])
    state.save_config(AgentConfig(name=name, address=address, cluster=cluster, ports=ports))
    return InitResult(f"{token_id}.{secret}", ca_pem.decode())


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
    wish = JoinRequest(token=token.strip(), name=name, address=address, csr_pem=request.decode())
    answer = _ask_to_join(url.rstrip("/"), ca_pem, wish)
    host = Host.model_validate_json(answer.host_json)
    ca_key = answer.ca_key_pem.encode() if answer.ca_key_pem else None
    _write_keys(
        state, answer.ca_pem.encode(), answer.certificate_pem.encode(), key, answer.heartbeat_key_hex, ca_key
    )
    state.save_hosts([Host.model_validate_json(h) for h in answer.hosts_json])
    state.save_config(
        AgentConfig(name=name, address=address, cluster=answer.cluster_name, ports=ports or host.ports)
    )


def _fresh(config_dir: Path, state_dir: Path) -> HostState:
    state = HostState(config_dir, state_dir)
    if state.is_member:
        raise Refused(
            f"this host is a member of cluster {state.load_config().cluster} already",
            f"to begin anew remove it there, then delete {state.config_file} and {state.state_dir}",
        )
    return state


def _write_keys(
    state: HostState, ca: bytes, certificate: bytes, key: bytes, heartbeat_hex: str, ca_key: bytes | None
) -> None:
    state.make_directories()
    pki.write_secret(state.pki.ca_certificate, ca)
    pki.write_secret(state.pki.host_certificate, certificate)
    pki.write_secret(state.pki.host_key, key)
    pki.write_secret(state.pki.heartbeat_key, heartbeat_hex.encode())
    if ca_key is not None:
        pki.write_secret(state.pki.ca_key, ca_key)


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
