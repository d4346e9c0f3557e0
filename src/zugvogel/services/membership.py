"""Hosts come and go: join tokens, joining, the CA's keys, removal (P1, P5).

Certificates are signed where the CA's keys are: on primaries. A host without them asks the primaries one after
the other, and a primary that is asked never asks on. So a question ends after one round, whatever is missing.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from zugvogel.core.roles import next_ordinal, on_removal, role_for_new_host
from zugvogel.domain.cluster import JoinToken
from zugvogel.domain.host import Host, Role
from zugvogel.domain.registry import peer_url
from zugvogel.domain.requests import CaKeys, JoinAnswer, JoinRequest
from zugvogel.errors import AlreadyExists, Conflict, Forbidden, Refused, Unreachable, ZugvogelError
from zugvogel.ports.clock import Clock
from zugvogel.ports.registry import Registry
from zugvogel.services.inventory import Inventory

log = logging.getLogger(__name__)

TOKEN_S = 3600.0
CALL_S = 10.0
KEYS = "membership.keys"
HAS_KEYS = "membership.has-keys"


class NoCaKeys(Refused):
    """A primary without the CA's keys was asked for something that needs them; another one may have them."""

    code = "no-ca-keys"


class Authority(Protocol):
    """The cluster's CA on this host."""

    def keys(self) -> CaKeys | None:
        """None on a host without them; it cannot sign."""

    def take_keys(self, keys: CaKeys) -> None:
        """Raises InvalidInput for keys of other CAs."""

    def drop_keys(self) -> None: ...

    def sign(self, request_pem: bytes, host: str, address: str) -> bytes:
        """The host's certificate. Raises Refused on a host without the keys."""

    def sign_for_qemu(self, request_pem: bytes, host: str, address: str) -> bytes:
        """The certificate of its QEMUs. Raises Refused on a host without the keys."""

    @property
    def ca_pem(self) -> str: ...
    @property
    def migration_ca_pem(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def heartbeat_key_hex(self) -> str: ...
    def unix_time(self) -> float: ...


class Members(Protocol):
    """What a removal needs of `ports.members.Members`."""

    async def remove(self, peer_url: str) -> None: ...


class Membership:
    """`call` asks another host: (host, command, payload) -> answer. `ready`: names of hosts that are live now;
    None: all are taken to be. `former`: hosts that are no primaries any more and may still have the CA's keys."""

    def __init__(
        self,
        name: str,
        *,
        registry: Registry,
        inventory: Inventory,
        clock: Clock,
        authority: Authority,
        members: Members,
        call: Callable[[Host, str, dict[str, Any]], Awaitable[dict[str, Any]]],
        ready: Callable[[], Awaitable[frozenset[str]]] | None = None,
        former: Callable[[], list[Host]] = list,
    ) -> None:
        self._name = name
        self._registry = registry
        self._inventory = inventory
        self._clock = clock
        self._authority = authority
        self._members = members
        self._call = call
        self._ready = ready
        self._former = former
        self._keys_trouble = ""

    def handlers(self) -> dict[str, Any]:
        return {
            "membership.join": self._on_join,
            KEYS: self._on_keys,
            HAS_KEYS: self._on_has_keys,
        }

    # who may call --------------------------------------------------------------------------------

    def admit(self, caller: str, command: str) -> None:
        """For the RPC server: `caller` is the host its certificate names. Raises Forbidden for hosts that are
        not, or no longer, of the cluster, and for secondaries that want the CA's keys."""
        host = next((h for h in self._inventory.hosts() if h.name == caller), None)
        if host is None:
            raise Forbidden(f"{caller} is not a host of this cluster", "see: zv host list")
        if command == KEYS and host.role is not Role.PRIMARY:
            raise Forbidden(f"{caller} is no primary, and only primaries have the CA's keys", "see: zv host list")

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
        """On any host; one without the CA's keys asks the primaries. Raises Unreachable or Refused where none of
        them can sign, Forbidden for a wrong token, AlreadyExists for a taken name or address."""
        keys = self._authority.keys()
        if keys is None:
            answer = await self._ask_signers("membership.join", request.model_dump(mode="json"))
            return JoinAnswer.model_validate(answer)
        return await self._join_here(request, keys)

    async def _join_here(self, request: JoinRequest, keys: CaKeys) -> JoinAnswer:
        await self._refuse_taken(request)
        await self._use_token(request.token)
        certificate = self._authority.sign(request.csr_pem.encode(), request.name, request.address)
        for_qemu = self._authority.sign_for_qemu(request.qemu_csr_pem.encode(), request.name, request.address)
        host = await self._enter(request)
        return JoinAnswer(
            cluster_name=self._inventory.cluster().name,
            host_json=host.model_dump_json(),
            hosts_json=tuple(h.model_dump_json() for h in await self._hosts_now()),
            ca_pem=self._authority.ca_pem,
            certificate_pem=certificate.decode(),
            migration_ca_pem=self._authority.migration_ca_pem,
            qemu_certificate_pem=for_qemu.decode(),
            heartbeat_key_hex=self._authority.heartbeat_key_hex,
            ca_keys=keys if host.role is Role.PRIMARY else None,
        )

    async def _on_join(self, payload: dict[str, Any]) -> dict[str, Any]:
        return (await self._join_here(JoinRequest.model_validate(payload), self._own_keys())).model_dump(
            mode="json"
        )

    # the CA's keys -------------------------------------------------------------------------------

    async def ensure_keys(self) -> bool:
        """On a primary: have the CA's keys, from another primary if need be (a secondary that was promoted does
        not have them). False where they cannot be had now; the cause is logged once. Ask again later."""
        if self._authority.keys() is not None:
            return True
        try:
            answer = await self._ask_signers(KEYS, {})
            self._authority.take_keys(CaKeys.model_validate(answer))
        except (ZugvogelError, ValueError) as error:
            if str(error) != self._keys_trouble:
                log.warning("the CA's keys did not come: %s", error)
            self._keys_trouble = str(error)
            return False
        log.info("the CA's keys came from another primary")
        return True

    async def _on_keys(self, _payload: dict[str, Any]) -> dict[str, Any]:
        """For primaries only: `admit` sees to that."""
        return self._own_keys().model_dump(mode="json")

    async def give_up_keys(self) -> bool:
        """On a host that is no primary any more: drop the CA's keys once a primary says that it has them. True:
        they are not here."""
        if self._authority.keys() is None:
            return True
        for host in self._inventory.hosts():
            if host.role is not Role.PRIMARY or host.name == self._name:
                continue
            try:
                has_keys = (await self._call(host, HAS_KEYS, {})).get("has_keys")
            except ZugvogelError:
                continue
            if has_keys:
                self._authority.drop_keys()
                log.info(
                    "the CA's keys were dropped: this host is no primary any more, and %s has them", host.name
                )
                return True
        return False

    async def _on_has_keys(self, _payload: dict[str, Any]) -> dict[str, Any]:
        return {"has_keys": self._authority.keys() is not None}

    def _own_keys(self) -> CaKeys:
        keys = self._authority.keys()
        if keys is None:
            raise NoCaKeys(f"{self._name} does not have the CA's keys", "ask another primary")
        return keys

    async def _ask_signers(self, command: str, payload: dict[str, Any]) -> dict[str, Any]:
        """The answer of the first other primary that has the CA's keys; each is asked once."""
        silent: list[str] = []
        without: list[str] = []
        primaries = [h for h in self._inventory.hosts() if h.role is Role.PRIMARY]
        for host in [*primaries, *self._former()]:
            if host.name == self._name:
                without.append(host.name)
                continue
            try:
                return await self._call(host, command, payload)
            except NoCaKeys:
                without.append(host.name)
            except Unreachable:
                silent.append(host.name)
        raise _nobody_signs(silent, without)

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
                ports=request.ports,
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

    # leaving -------------------------------------------------------------------------------------

    async def remove_host(self, name: str) -> None:
        """Its record and etcd membership go; a secondary takes a primary's role (P5)."""
        hosts = await self._hosts_now()
        host = next((h for h in hosts if h.name == name), None)
        if host is None:
            return
        ready = await self._ready() if self._ready is not None else frozenset(h.name for h in hosts)
        changes = on_removal(hosts, name, ready)
        await self._members.remove(peer_url(host))
        await self._registry.delete(f"hosts/{name}")
        await self._registry.delete(f"maintenance/{name}")
        for record in hosts:
            if record.name in changes:
                record = record.model_copy(update={"role": changes[record.name]})
                await self._registry.put(f"hosts/{record.name}", record.model_dump_json().encode())


def _nobody_signs(silent: list[str], without: list[str]) -> ZugvogelError:
    lacking = f"{', '.join(without)} {'does' if len(without) == 1 else 'do'} not have them" if without else ""
    if silent:
        told = "; ".join(filter(None, [f"{', '.join(silent)} cannot be reached", lacking]))
        return Unreachable(
            f"no primary that has the CA's keys answers: {told}",
            f"start the agent on {' or '.join(silent)}, then try again",
        )
    return Refused(
        f"no host of the cluster has the CA's keys any more: {lacking or 'there is no primary'}",
        "put ca.key and migration-ca.key of a former primary back into /var/lib/zugvogel/pki of a primary",
    )
