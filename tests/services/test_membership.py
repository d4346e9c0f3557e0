"""Joining, promotion and removal between hosts with real keys on disk; RPC is a call that crosses as JSON."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.registry import MemoryRegistry
from zugvogel.adapters import pki
from zugvogel.adapters.authority import FileAuthority
from zugvogel.adapters.clock import SystemClock
from zugvogel.adapters.host_state import HostState
from zugvogel.bootstrap.cluster_init import init_cluster
from zugvogel.domain.cluster import Cluster
from zugvogel.domain.host import Host, Ports, Role
from zugvogel.domain.requests import CaKeys, JoinAnswer, JoinRequest
from zugvogel.errors import Forbidden, Refused, Unreachable, ZugvogelError, from_code
from zugvogel.services.inventory import Inventory
from zugvogel.services.membership import KEYS, Membership


class NoMembers:
    """etcd's membership is not looked at here."""

    async def ensure(self, peer_url: str) -> None: ...
    async def promote(self, peer_url: str) -> bool:
        return True

    async def remove(self, peer_url: str) -> None: ...


class Site:
    """`founder` and whoever joined; `off` are hosts that do not answer, `calls` the RPCs (from, to, command)."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.registry = MemoryRegistry()
        self.hosts: dict[str, Membership] = {}
        self.inventories: dict[str, Inventory] = {}
        self.off: set[str] = set()
        self.calls: list[tuple[str, str, str]] = []

    async def found(self) -> None:
        init_cluster(
            self.root / "host1/etc", self.root / "host1/var", cluster="birds", name="host1", address="192.0.2.11"
        )
        initial = self.state("host1").load_initial()
        assert initial is not None
        await self.registry.put("cluster", initial.cluster.model_dump_json().encode())
        await self.registry.put("hosts/host1", initial.host.model_dump_json().encode())
        await self.run("host1")

    def state(self, name: str) -> HostState:
        return HostState(self.root / name / "etc", self.root / name / "var")

    async def run(self, name: str) -> None:
        inventory = self.inventories[name] = Inventory(self.registry, SystemClock(), [])
        self.hosts[name] = Membership(
            name,
            registry=self.registry,
            inventory=inventory,
            clock=SystemClock(),
            authority=FileAuthority(self.state(name).pki),
            members=NoMembers(),
            call=lambda host, command, payload: self.call(name, host, command, payload),
        )
        await self.replicate()

    async def replicate(self) -> None:
        for inventory in self.inventories.values():
            await inventory._load()

    async def call(self, caller: str, host: Host, command: str, payload: dict[str, Any]) -> dict[str, Any]:
        self.calls.append((caller, host.name, command))
        if host.name in self.off:
            raise Unreachable(f"{host.name} cannot be reached")
        to = self.hosts[host.name]
        try:
            to.admit(caller, command)
            answer = await to.handlers()[command](json.loads(json.dumps(payload)))
        except ZugvogelError as error:
            raise from_code(error.code, error.cause, error.next_step) from None
        found: dict[str, Any] = json.loads(json.dumps(answer))
        return found

    async def join(self, number: int, through: str = "host1", ports: Ports | None = None) -> JoinAnswer:
        """As `zv host join` does it, up to the running agent."""
        name, address = f"host{number}", f"192.0.2.{10 + number}"
        request, _ = pki.new_request(name)
        qemu_request, _ = pki.new_request(name)
        answer = await self.hosts[through].join(
            JoinRequest(
                token=await self.hosts["host1"].new_join_token(),
                name=name,
                address=address,
                csr_pem=request.decode(),
                qemu_csr_pem=qemu_request.decode(),
                ports=ports or Ports(),
            )
        )
        state = self.state(name)
        state.make_directories()
        for file, data in {
            state.pki.ca_certificate: answer.ca_pem,
            state.pki.migration_ca_certificate: answer.migration_ca_pem,
            state.pki.heartbeat_key: answer.heartbeat_key_hex,
        }.items():
            pki.write_secret(file, data.encode())
        if answer.ca_keys is not None:
            FileAuthority(state.pki).take_keys(answer.ca_keys)
        await self.run(name)
        return answer

    def lose_keys(self, *names: str) -> None:
        for name in names:
            self.state(name).pki.ca_key.unlink()

    def keys(self, name: str) -> CaKeys | None:
        return FileAuthority(self.state(name).pki).keys()

    async def remove(self, name: str, through: str) -> None:
        """Its disks are gone with it."""
        self.off.add(name)
        await self.hosts[through].remove_host(name)
        shutil.rmtree(self.root / name)
        await self.replicate()


@pytest.fixture
async def site(tmp_path: Path) -> Site:
    made = Site(tmp_path)
    await made.found()
    return made


async def with_hosts(site: Site, count: int) -> None:
    for number in range(2, count + 1):
        await site.join(number)


async def test_primaries_get_the_cas_keys_and_secondaries_do_not(site: Site) -> None:
    answers = [await site.join(number) for number in range(2, 8)]
    roles = [Host.model_validate_json(a.host_json).role for a in answers]
    assert roles == [Role.PRIMARY] * 4 + [Role.SECONDARY] * 2
    assert [a.ca_keys is not None for a in answers] == [True] * 4 + [False] * 2


async def test_a_host_joins_through_a_secondary(site: Site) -> None:
    await with_hosts(site, 6)
    site.off = {"host1"}
    answer = await site.join(7, through="host6")
    assert Cluster.model_validate_json((await site.registry.list("cluster"))[0].value).name == answer.cluster_name
    assert site.calls == [("host6", "host1", "membership.join"), ("host6", "host2", "membership.join")]


async def test_a_promoted_secondary_gets_the_keys_and_signs_with_them(site: Site) -> None:
    await with_hosts(site, 6)
    assert not await site.hosts["host6"].ensure_keys()
    await site.remove("host2", through="host1")
    assert await site.hosts["host6"].ensure_keys()
    assert site.keys("host6") == site.keys("host1") is not None
    site.off |= {"host1", "host3", "host4", "host5"}
    site.calls.clear()
    assert (await site.join(8, through="host6")).qemu_certificate_pem
    assert site.calls == []


async def test_a_demoted_primary_drops_the_keys_once_a_primary_has_them(site: Site) -> None:
    await with_hosts(site, 3)
    hosts = {h.name: h for h in site.inventories["host1"].hosts()}
    record = hosts["host3"].model_copy(update={"role": Role.SECONDARY})
    await site.registry.put("hosts/host3", record.model_dump_json().encode())
    await site.replicate()
    site.off = {"host1", "host2"}
    assert not await site.hosts["host3"].give_up_keys()
    site.off = {"host1"}
    site.lose_keys("host2")
    assert not await site.hosts["host3"].give_up_keys()
    assert site.keys("host3") is not None
    site.off = set()
    assert await site.hosts["host3"].give_up_keys()
    assert site.keys("host3") is None
    assert await site.hosts["host3"].give_up_keys()


async def test_new_primaries_get_the_keys_from_one_that_was_demoted(site: Site) -> None:
    """Roles were given out anew, and no primary has the keys yet."""
    await with_hosts(site, 2)
    roles = {"host1": Role.SECONDARY, "host2": Role.PRIMARY}
    for host in site.inventories["host1"].hosts():
        record = host.model_copy(update={"role": roles[host.name]})
        await site.registry.put(f"hosts/{host.name}", record.model_dump_json().encode())
    await site.replicate()
    site.lose_keys("host2")
    assert not await site.hosts["host2"].ensure_keys()
    site.hosts["host2"]._former = lambda: [h for h in site.inventories["host2"].hosts() if h.name == "host1"]
    assert await site.hosts["host2"].ensure_keys()
    assert site.keys("host2") == site.keys("host1")


async def test_a_promoted_secondary_asks_again_when_nobody_could_be_reached(site: Site) -> None:
    await with_hosts(site, 6)
    await site.remove("host2", through="host1")
    off, site.off = site.off, {f"host{n}" for n in range(1, 6)}
    assert not await site.hosts["host6"].ensure_keys()
    site.off = off
    assert await site.hosts["host6"].ensure_keys()


async def test_a_secondary_is_not_given_the_keys_and_a_removed_primary_neither(site: Site) -> None:
    await with_hosts(site, 6)
    with pytest.raises(Forbidden, match="host6 is no primary"):
        site.hosts["host1"].admit("host6", KEYS)
    site.hosts["host1"].admit("host5", KEYS)
    await site.remove("host5", through="host1")
    for command in (KEYS, "membership.join", "vm.start"):
        with pytest.raises(Forbidden, match="host5 is not a host of this cluster"):
            site.hosts["host1"].admit("host5", command)


@pytest.mark.parametrize("through", ["host1", "host2", "host6"])
async def test_when_no_primary_has_the_keys_a_join_ends_and_says_so(site: Site, through: str) -> None:
    await with_hosts(site, 6)
    site.lose_keys("host1", "host2", "host3", "host4", "host5")
    with pytest.raises(Refused, match="no host of the cluster has the CA's keys any more"):
        await site.join(7, through=through)
    assert len(site.calls) == (5 if through == "host6" else 4)
    assert await site.registry.get("hosts/host7") is None


async def test_when_the_primaries_with_keys_are_silent_a_join_names_them(site: Site) -> None:
    await with_hosts(site, 3)
    site.lose_keys("host2", "host3")
    site.off = {"host1"}
    with pytest.raises(Unreachable, match=r"host1 cannot be reached; host2, host3 do not have them"):
        await site.join(4, through="host2")


async def test_a_primary_that_lost_its_keys_joins_hosts_through_another_and_gets_them_back(site: Site) -> None:
    await with_hosts(site, 3)
    site.lose_keys("host1", "host2")
    assert (await site.join(4, through="host1")).ca_keys == site.keys("host3")
    assert site.calls == [("host1", "host2", "membership.join"), ("host1", "host3", "membership.join")]
    assert await site.hosts["host1"].ensure_keys()
    assert site.keys("host1") == site.keys("host3")


async def test_a_host_is_registered_with_its_own_ports(site: Site) -> None:
    await with_hosts(site, 1)
    answer = await site.join(2, ports=Ports(api=8440))
    assert Host.model_validate_json(answer.host_json).ports == Ports(api=8440)


async def test_a_wrong_token_is_told_by_the_first_that_can_sign(site: Site) -> None:
    await with_hosts(site, 3)
    site.lose_keys("host1")
    request, _ = pki.new_request("host4")
    wish = JoinRequest(
        token="x.y.z", name="host4", address="192.0.2.14", csr_pem=request.decode(), qemu_csr_pem=request.decode()
    )
    with pytest.raises(Forbidden, match="join token is unknown"):
        await site.hosts["host1"].join(wish)
    assert site.calls == [("host1", "host2", "membership.join")]
