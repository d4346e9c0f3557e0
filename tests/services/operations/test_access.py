from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.services.operations.hosts_with_users import Host, Hosts, hosts
from zugvogel.domain.cluster import Access
from zugvogel.domain.requests import NewToken
from zugvogel.domain.user import Caller
from zugvogel.errors import Forbidden, NotFound, Unreachable
from zugvogel.ports.caller import caller


@pytest.fixture
async def cluster() -> AsyncIterator[Hosts]:
    async with hosts() as found:
        yield found


@pytest.fixture
async def host(cluster: Hosts) -> Host:
    return await cluster.start()


async def test_a_token_is_its_id(host: Host) -> None:
    token, text = await host.new_token(NewToken(access=Access.OPERATOR))
    assert await host.accepts(text) == Caller(access=Access.OPERATOR, user=token.id, kind="token")
    await host.revoke_token(token.id)
    with pytest.raises(Forbidden, match="not known"):
        await host.accepts(text)
    with pytest.raises(NotFound):
        await host.revoke_token(token.id)


@pytest.mark.parametrize("text", ["", ".", "root", "root.", "root.wrong", "x/y.z", "\udc80", "root.\udc80"])
async def test_other_texts_are_not_known(host: Host, text: str) -> None:
    with pytest.raises(Forbidden):
        await host.accepts(text)


async def test_a_ticket_is_good_once(host: Host) -> None:
    host.tickets["ticket.x"] = "web1"
    found = await host.accepts("ticket.x")
    assert (found.access, found.kind) == (Access.OPERATOR, "service")
    with pytest.raises(Forbidden):
        await host.accepts("ticket.x")


async def test_the_console_looks_only_and_on_its_own_host_alone(cluster: Hosts, host: Host) -> None:
    expected = Caller(access=Access.VIEWER, user="console", kind="service")
    assert await host.accepts(host.console_token()) == expected
    for other in (await cluster.start("host2"), await cluster.start("host1")):
        with pytest.raises(Forbidden):
            await other.accepts(host.console_token())
    assert not [key for key in cluster.registry.writes if "console" in key]


async def test_nobody_is_judged_before_the_registry_was_read(cluster: Hosts) -> None:
    with pytest.raises(Unreachable):
        await Host(cluster.registry, cluster.clock).authenticate("root.x")


async def test_events_of_tokens_tell_by_whom(host: Host) -> None:
    held = caller.set(Caller(access=Access.ADMIN, user="ada", kind="user"))
    try:
        token, _ = await host.new_token(NewToken(access=Access.VIEWER))
        await host.revoke_token(token.id)
    finally:
        caller.reset(held)
    told = await host.told("token")
    assert [(e.kind, e.by) for e in told] == [("token.created", "user ada"), ("token.revoked", "user ada")]
