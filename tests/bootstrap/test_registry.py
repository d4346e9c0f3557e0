"""Real etcd members: formed anew from one of three, joined again by those that return, moved with the roles."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.bootstrap.hosts_on_loopback import Site, come_true
from zugvogel.domain.host import Role
from zugvogel.services.ha import role_changes

pytestmark = pytest.mark.timeout(150)


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    monkeypatch.setattr(role_changes, "REMOVE_AFTER_S", 1.0)
    made = Site(tmp_path)
    yield made
    await made.close()


async def test_one_of_three_forms_etcd_anew_and_those_that_return_join_it(site: Site) -> None:
    await site.begin(3)
    one = site.nodes["host1"]
    await one.put("settings/before", "kept")
    site.judge = "host1"
    await site.power_off("host2", "host3")
    site.bury("host2", "host3")
    await one.put("settings/after", "written")
    assert await one.get("settings/before") == "kept"
    await come_true(lambda: one.has("generation", "1"), "the generation to be told")
    assert one.state.load_generation() == 1
    assert "registry.reformed" in await one.kinds_of_events()
    await site.members_are("host1")
    assert [h.role for h in one.inventory.hosts()] == [Role.PRIMARY] * 3, "a failed primary stays a primary"

    site.judge = ""
    for count, name in enumerate(("host2", "host3"), 2):
        assert site.nodes.get(name) is None
        site.power_on(name)
        await site.members_are(*(f"host{n}" for n in range(1, count + 1)))
        back = site.nodes[name]
        assert back.state.load_generation() == 1
        assert "registry.rejoined" in await back.kinds_of_events()
        await come_true(back.etcd.own.is_current, f"{name} to have all")
        assert await back.get("settings/after") == "written"
    former = [site.root / name / "var" / "etcd.former" for name in ("host2", "host3")]

    async def are_gone() -> bool:
        return not any(path.exists() for path in former)

    await come_true(are_gone, "the discarded data to be removed")


async def test_of_two_hosts_the_survivor_goes_on_and_does_so_after_a_restart(site: Site) -> None:
    await site.begin(2)
    one = site.nodes["host1"]
    site.judge = "host1"
    await site.power_off("host2")
    site.bury("host2")
    await one.put("settings/a", "1")
    site.judge = ""
    await site.power_off("host1")
    site.power_on("host1")
    await site.nodes["host1"].put("settings/a", "2")
    site.power_on("host2")
    await site.members_are("host1", "host2")


async def test_the_members_follow_the_roles_one_at_a_time(site: Site) -> None:
    """Two of three primaries are exchanged, etcd's leader among them; at each moment a majority answers."""
    await site.begin(3, 2)
    one = site.nodes["host1"]
    hosts = {h.name: h for h in one.inventory.hosts()}
    roles = {"host1": Role.SECONDARY, "host2": Role.SECONDARY, "host4": Role.PRIMARY, "host5": Role.PRIMARY}
    await one.etcd.registry.put_many(
        {
            f"hosts/{n}": hosts[n].model_copy(update={"role": r}).model_dump_json().encode()
            for n, r in roles.items()
        },
        expect={},
    )
    await site.members_are("host3", "host4", "host5")
    for name in ("host1", "host2"):
        own = site.nodes[name].etcd.own

        async def has_left(own: object = own) -> bool:
            return not own.is_running and not own.has_data  # type: ignore[attr-defined]

        await come_true(has_left, f"{name} to have left")
        await site.nodes[name].put("settings/by", name)
        assert await site.nodes["host5"].get("settings/by") == name
    one_key, four = site.nodes["host1"].state.pki.ca_key, site.nodes["host4"]

    async def is_dropped() -> bool:
        return not one_key.exists()

    await come_true(is_dropped, "a secondary to drop the CA's keys")
    assert four.state.pki.ca_key.exists(), "a new primary has the CA's keys"
