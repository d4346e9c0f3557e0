"""Hosts come and go: join tokens, joining, roles, and etcd's members that follow the roles (P1, P5)."""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
from collections.abc import Callable
from typing import Any, Protocol

from zugvogel.core.roles import next_ordinal, promoted_by_removal, role_for_new_host
from zugvogel.domain.cluster import JoinToken
from zugvogel.domain.host import Host, Role
from zugvogel.domain.requests import JoinAnswer, JoinRequest
from zugvogel.errors import AlreadyExists, Conflict, Forbidden, Refused
from zugvogel.ports.clock import Clock
from zugvogel.ports.registry import Registry
from zugvogel.services.inventory import Inventory

log = logging.getLogger(__name__)

TOKEN_S = 3600.0


class Authority(Protocol):
    """The cluster's CA on this host."""

    def sign(self, request_pem: bytes, host: str, address: str) -> bytes:
        """Raises Refused on a host without the CA's key."""

    @property
    def ca_pem(self) -> str: ...
    @property
    def ca_key_pem(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def heartbeat_key_hex(self) -> str: ...
    def unix_time(self) -> float: ...


class Members(Protocol):
    """etcd's membership; see `zugvogel.adapters.etcd.members`."""

    async def ensure(self, peer_url: str) -> None: ...
    async def promote(self, peer_url: str) -> bool: ...
    async def remove(self, peer_url: str) -> None: ...


def peer_url(host: Host) -> str:
    return f"https://{host.address}:{host.ports.etcd_peer}"


class Membership:
    def __init__(
        self,
        *,
        registry: Registry,
        inventory: Inventory,
        clock: Clock,
        authority: Authority,
        members: Members,
        forward: Callable[[str, dict[str, Any]], Any],
    ) -> None:
        self._registry = registry
        self._inventory = inventory
        self._clock = clock
        self._authority = authority
        self._members = members
        self._forward = forward
        """Asks a primary: (command, payload) -> answer."""

    def handlers(self) -> dict[str, Any]:
        return {
            "etcd.add": self._on_add,
            "etcd.promote": self._on_promote,
            "membership.join": self._on_join,
        }

    # tokens --------------------------------------------------------------------------------------

    async def new_join_token(self) -> str:
        token_id, secret = secrets.token_hex(4), secrets.token_urlsafe(24)
        token = JoinToken(
            id=token_id,
            secret_sha256=hashlib.sha256(secret.encode()).hexdigest(),
            expires_at_s=self._authority.unix_time() + TOKEN_S,
        )
        await self._registry.put(f"jointokens/{token_id}", token.model_dump_json().encode(), revision=0)
        return f"{token_id}.{secret}.{self._authority.fingerprint}"

    async def _use_token(self, text: str) -> None:
        """Consumes it. Raises Forbidden."""
        token_id, _, rest = text.partition(".")
        secret = rest.partition(".")[0]
        key = f"jointokens/{token_id}"
        entry = await self._registry.get(key) if token_id.isalnum() else None
        digest = hashlib.sha256(secret.encode()).hexdigest()
        if entry is None:
            raise Forbidden("the join token is unknown or was used already", "make a new one: zv token join")
        token = JoinToken.model_validate_json(entry.value)
        if not hmac.compare_digest(token.secret_sha256, digest):
            raise Forbidden("the join token is wrong", "make a new one: zv token join")
        try:
            await self._registry.delete(key, revision=entry.revision)
        except Conflict as error:
            raise Forbidden("the join token was used already", "make a new one: zv token join") from error
        if token.expires_at_s < self._authority.unix_time():
            raise Forbidden("the join token is older than an hour", "make a new one: zv token join")

    # joining -------------------------------------------------------------------------------------

    async def join(self, request: JoinRequest) -> JoinAnswer:
        """On any host; a secondary has no CA key and asks a primary."""
        if not self._authority.ca_key_pem:
            answer = await self._forward("membership.join", request.model_dump(mode="json"))
            return JoinAnswer.model_validate(answer)
        await self._refuse_taken(request)
        await self._use_token(request.token)
        certificate = self._authority.sign(request.csr_pem.encode(), request.name, request.address)
        host = await self._enter(request)
        is_primary = host.role is Role.PRIMARY
        return JoinAnswer(
            cluster_name=self._inventory.cluster().name,
            host_json=host.model_dump_json(),
            hosts_json=tuple(h.model_dump_json() for h in await self._hosts_now()),
            ca_pem=self._authority.ca_pem,
            certificate_pem=certificate.decode(),
            heartbeat_key_hex=self._authority.heartbeat_key_hex,
            ca_key_pem=self._authority.ca_key_pem if is_primary else "",
        )

    async def _on_join(self, payload: dict[str, Any]) -> dict[str, Any]:
        return (await self.join(JoinRequest.model_validate(payload))).model_dump(mode="json")

    async def _hosts_now(self) -> list[Host]:
        return [Host.model_validate_json(e.value) for e in await self._registry.list("hosts/")]

    async def _refuse_taken(self, request: JoinRequest) -> None:
        for host in await self._hosts_now():
            if host.name == request.name:
                raise AlreadyExists(
                    f"the cluster has a host {host.name} already",
                    f"choose another name, or remove the old one: zv host remove {host.name}",
                )
            if host.address == request.address:
                raise AlreadyExists(f"{host.name} has the address {host.address} already", "give another address")

    async def _enter(self, request: JoinRequest) -> Host:
        """Ordinal and role are given under one counter key, so that two joins at once never get the same."""
        for _ in range(16):
            counter = await self._registry.get("hostcounter")
            hosts = await self._hosts_now()
            host = Host(
                name=request.name,
                address=request.address,
                role=role_for_new_host(hosts),
                ordinal=max(next_ordinal(hosts), int(counter.value) + 1 if counter else 0),
                joined_at=self._clock.now_iso(),
            )
            changes = {
                f"hosts/{host.name}": host.model_dump_json().encode(),
                "hostcounter": str(host.ordinal).encode(),
            }
            expect = {f"hosts/{host.name}": 0, "hostcounter": counter.revision if counter else 0}
            try:
                await self._registry.put_many(changes, expect=expect)
            except Conflict:
                continue
            return host
        raise Conflict("other hosts join all the time", "try again")

    # etcd's members ------------------------------------------------------------------------------

    async def _on_add(self, payload: dict[str, Any]) -> dict[str, Any]:
        """On a member: take `host` in as a learner; answers the hosts that are members by then."""
        host = next((h for h in await self._hosts_now() if h.name == str(payload["host"])), None)
        if host is None or host.role is not Role.PRIMARY:
            raise Refused(f"{payload['host']} is no primary", "see: zv host list")
        await self._members.ensure(peer_url(host))
        return {"peer_url": peer_url(host)}

    async def _on_promote(self, payload: dict[str, Any]) -> dict[str, Any]:
        host = self._inventory.host(str(payload["host"]))
        return {"votes": await self._members.promote(peer_url(host))}

    # leaving -------------------------------------------------------------------------------------

    async def remove_host(self, name: str) -> None:
        """Its record and etcd membership go; a secondary takes a primary's role (P5)."""
        hosts = await self._hosts_now()
        host = next((h for h in hosts if h.name == name), None)
        if host is None:
            return
        promoted = promoted_by_removal(hosts, name)
        if host.role is Role.PRIMARY:
            await self._members.remove(peer_url(host))
        await self._registry.delete(f"hosts/{name}")
        if promoted is not None:
            record = promoted.model_copy(update={"role": Role.PRIMARY})
            await self._registry.put(f"hosts/{promoted.name}", record.model_dump_json().encode())
