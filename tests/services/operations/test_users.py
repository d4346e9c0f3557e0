from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.services.operations.hosts_with_users import PASSWORD, Host, Hosts, SetClock, follows, hosts
from zugvogel.domain.cluster import Access
from zugvogel.domain.requests import ChangePassword, ChangeUser, NewUser
from zugvogel.domain.user import Caller, SessionKey
from zugvogel.errors import (
    AlreadyExists,
    Conflict,
    Forbidden,
    InvalidInput,
    NotFound,
    Refused,
    SessionEnded,
    Unreachable,
)
from zugvogel.ports.caller import caller
from zugvogel.services.operations import users


@pytest.fixture
async def cluster() -> AsyncIterator[Hosts]:
    async with hosts() as found:
        yield found


@pytest.fixture
async def host(cluster: Hosts) -> Host:
    return await cluster.start()


# users ----------------------------------------------------------------------------------------------------


async def test_hashes_do_not_leave(host: Host) -> None:
    made = await host.new_user(NewUser(name="ada", access=Access.VIEWER, password=PASSWORD))
    changed = await host.change_user("ada", ChangeUser(password="another one"))
    shown = [made, changed, await host.change_user("ada", ChangeUser()), *await host.users()]
    assert {user.password_hash for user in shown} == {""}
    assert PASSWORD not in repr(NewUser(name="ada", access=Access.VIEWER, password=PASSWORD))


async def test_a_name_is_taken_once(host: Host) -> None:
    await host.add("ada")
    with pytest.raises(AlreadyExists, match="user ada"):
        await host.add("ada")


async def test_a_user_who_is_not_there_cannot_be_changed_or_deleted(host: Host) -> None:
    with pytest.raises(NotFound, match="no user ada"):
        await host.change_user("ada", ChangeUser(access=Access.ADMIN))
    with pytest.raises(NotFound, match="no user ada"):
        await host.delete_user("ada")


async def test_a_change_does_not_bring_a_deleted_user_back(cluster: Hosts, host: Host) -> None:
    await host.add("ada")

    async def deleted_meanwhile(user: object, revision: int, changed: object) -> object:
        await cluster.registry.delete("users/ada")
        return await write(user, revision, changed)  # type: ignore[arg-type]

    write, host._write_user = host._write_user, deleted_meanwhile  # type: ignore[method-assign, assignment]
    with pytest.raises(Conflict):
        await host.change_user("ada", ChangeUser(access=Access.ADMIN))
    assert await cluster.registry.get("users/ada") is None


async def test_without_a_change_sessions_go_on(host: Host) -> None:
    await host.add("ada", Access.OPERATOR)
    token = (await host.login("ada", PASSWORD)).token
    await host.change_user("ada", ChangeUser(access=Access.OPERATOR))
    await host.change_user("ada", ChangeUser())
    assert (await host.accepts(token)).user == "ada"
    assert await host.told("user.changed") == []


# the last admin -------------------------------------------------------------------------------------------


async def test_an_admin_token_or_an_admin_user_stays(host: Host) -> None:
    await host.add("ada", Access.ADMIN)
    await host.revoke_token("root")
    for change in (host.delete_user("ada"), host.change_user("ada", ChangeUser(access=Access.OPERATOR))):
        with pytest.raises(Refused, match="user ada is the last admin"):
            await change
    await host.change_user("ada", ChangeUser(password="still an admin"))
    await host.add("bob", Access.ADMIN)
    await host.delete_user("ada")


async def test_users_who_are_no_admins_do_not_free_the_last_token(host: Host) -> None:
    await host.add("ada", Access.OPERATOR)
    with pytest.raises(Refused, match="last admin token"):
        await host.revoke_token("root")


# logging in -----------------------------------------------------------------------------------------------


async def test_a_login_gives_a_bearer(host: Host) -> None:
    await host.add("ada", Access.OPERATOR)
    session = await host.login("ada", PASSWORD)
    assert session.expires_at == "2026-01-01T12:00:00Z"
    assert PASSWORD not in session.token
    assert len(session.token) < 512
    expected = Caller(access=Access.OPERATOR, user="ada", kind="user", expires_at=session.expires_at)
    assert await host.accepts(session.token) == expected


async def test_the_longest_name_fits_a_bearer(host: Host) -> None:
    await host.add("a" * 63)
    assert len((await host.login("a" * 63, PASSWORD)).token) < 512


@pytest.mark.parametrize("user", ["ada", "nobody", "", "../ada", "Ada"])
async def test_what_is_wrong_is_not_told(host: Host, user: str) -> None:
    await host.add("ada")
    with pytest.raises(Forbidden, match=r"^user or password is wrong;"):
        await host.login(user, "wrong")


async def test_an_unknown_user_costs_the_same_work(host: Host) -> None:
    await host.add("ada")
    for user in ("nobody", "ada"):
        with pytest.raises(Forbidden):
            await host.login(user, "wrong")
    assert host.passwords.verified == [host.passwords.nobody, f"1:{PASSWORD}"]


async def test_nobody_logs_in_with_the_hash_of_nobody(host: Host) -> None:
    async def matches(hashed: str, password: str) -> bool:
        return True

    host.passwords.verify = matches  # type: ignore[method-assign]
    with pytest.raises(Forbidden):
        await host.login("nobody", "anything")


async def test_logins_wait_for_the_registry(cluster: Hosts) -> None:
    with pytest.raises(Unreachable, match="has not read the registry"):
        await Host(cluster.registry, cluster.clock).login("ada", PASSWORD)


async def test_logging_in_needs_neither_majority_nor_write(cluster: Hosts, host: Host) -> None:
    await host.add("ada")
    other = await cluster.start("host2")
    written = len(cluster.registry.writes)
    cluster.registry.is_reachable = False
    token = (await other.login("ada", PASSWORD)).token
    assert (await host.accepts(token)).user == "ada"
    assert len(cluster.registry.writes) == written


# how sessions end -----------------------------------------------------------------------------------------


async def test_a_session_outlives_agents_and_is_good_everywhere(cluster: Hosts, host: Host) -> None:
    await host.add("ada")
    token = (await host.login("ada", PASSWORD)).token
    for other in (await cluster.start("host1"), await cluster.start("host2")):
        assert (await other.accepts(token)).user == "ada"


async def test_it_ends_with_its_time(cluster: Hosts, host: Host) -> None:
    await host.add("ada")
    token = (await host.login("ada", PASSWORD)).token
    cluster.clock.pass_by(hours=11, minutes=59)
    await host.accepts(token)
    cluster.clock.pass_by(minutes=1)
    with pytest.raises(SessionEnded, match="time is over"):
        await host.accepts(token)


async def test_a_shorter_time_counts_at_once_and_a_longer_one_from_the_next_login(
    cluster: Hosts, host: Host
) -> None:
    await host.add("ada")
    token = (await host.login("ada", PASSWORD)).token
    await host.inventory.set_setting("console.session_hours", 1)
    assert (await host.accepts(token)).expires_at == "2026-01-01T01:00:00Z"
    cluster.clock.pass_by(hours=2)
    with pytest.raises(SessionEnded):
        await host.accepts(token)
    await host.inventory.set_setting("console.session_hours", 720)
    cluster.clock.pass_by(hours=11)
    with pytest.raises(SessionEnded):
        await host.accepts(token)


async def test_clocks_of_hosts_may_differ_a_little(cluster: Hosts, host: Host) -> None:
    await host.add("ada")
    behind = SetClock()
    other = await cluster.start("host2", behind)
    token = (await host.login("ada", PASSWORD)).token
    behind.pass_by(minutes=-4)
    assert (await other.accepts(token)).user == "ada"
    behind.pass_by(minutes=-4)
    with pytest.raises(SessionEnded, match="clock is far behind"):
        await other.accepts(token)


@pytest.mark.parametrize(
    "change", [ChangeUser(password="another one"), ChangeUser(access=Access.VIEWER)], ids=["password", "access"]
)
async def test_it_ends_with_a_change_on_every_host(cluster: Hosts, host: Host, change: ChangeUser) -> None:
    await host.add("ada")
    other = await cluster.start("host2")
    token = (await host.login("ada", PASSWORD)).token
    before = other.inventory.user("ada")
    await host.change_user("ada", change)
    await follows(lambda: other.inventory.user("ada") != before)
    for each in (host, other):
        with pytest.raises(SessionEnded, match="ada was changed"):
            await each.accepts(token)


async def test_it_ends_with_the_user_also_when_one_of_that_name_is_made_anew(host: Host) -> None:
    await host.add("ada", Access.VIEWER)
    token = (await host.login("ada", PASSWORD)).token
    await host.delete_user("ada")
    with pytest.raises(SessionEnded):
        await host.accepts(token)
    await host.add("ada", Access.VIEWER)  # in the same millisecond
    with pytest.raises(SessionEnded):
        await host.accepts(token)


async def test_logging_out_ends_this_session_alone_and_on_every_host(cluster: Hosts, host: Host) -> None:
    await host.add("ada")
    other = await cluster.start("host2")
    ended, kept = [(await host.login("ada", PASSWORD)).token for _ in range(2)]
    await host.end_session(ended)
    await follows(other.inventory.ended_sessions)
    for each in (host, other, await cluster.start("host1")):
        with pytest.raises(SessionEnded, match="logged out"):
            await each.accepts(ended)
        assert (await each.accepts(kept)).user == "ada"


async def test_logging_out_without_a_majority_is_not_claimed(cluster: Hosts, host: Host) -> None:
    await host.add("ada")
    token = (await host.login("ada", PASSWORD)).token
    cluster.registry.is_reachable = False
    with pytest.raises(Unreachable):
        await host.end_session(token)
    assert (await host.accepts(token)).user == "ada"


async def test_ended_sessions_are_forgotten_when_nothing_could_revive_them(cluster: Hosts, host: Host) -> None:
    await host.add("ada")
    first = (await host.login("ada", PASSWORD)).token
    await host.inventory.set_setting("console.session_hours", 1)
    await host.end_session(first)
    cluster.clock.pass_by(hours=2)
    await host.end_session((await host.login("ada", PASSWORD)).token)
    assert len(host.inventory.ended_sessions()) == 2, "the first could live on with a longer setting"
    cluster.clock.pass_by(hours=12)
    await host.end_session((await host.login("ada", PASSWORD)).token)
    assert len(host.inventory.ended_sessions()) == 1


async def test_logging_out_of_very_many_is_logging_out_of_all(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users, "ENDED_KEPT", 2)
    await host.add("ada")
    tokens = [(await host.login("ada", PASSWORD)).token for _ in range(4)]
    host.clock.pass_by(seconds=1)
    for token in tokens[:3]:
        await host.end_session(token)
    for token in tokens:
        with pytest.raises(SessionEnded):
            await host.accepts(token)
    assert host.inventory.ended_sessions() == []


async def test_other_bearers_are_not_logged_out(host: Host) -> None:
    with pytest.raises(Refused, match="only a user's session"):
        await host.end_session("root.secret")


# the key --------------------------------------------------------------------------------------------------


async def test_the_key_is_made_once_whoever_is_first(cluster: Hosts, host: Host) -> None:
    late = Host(cluster.registry, cluster.clock, "host2")  # its replica does not follow
    await host.add("ada")
    key = host.inventory.session_key()
    assert key is not None
    assert await late._held_sessions.ensure_key() == key
    assert cluster.registry.writes.count("secrets/sessions") == 1


async def test_a_session_of_another_key_is_not_known(cluster: Hosts, host: Host) -> None:
    await host.add("ada")
    token = (await host.login("ada", PASSWORD)).token
    await host.inventory.put("secrets/sessions", SessionKey(key="another", created_at=""))
    with pytest.raises(Forbidden, match="not known") as raised:
        await host.accepts(token)
    assert not isinstance(raised.value, SessionEnded)


@pytest.mark.parametrize("spoil", ["s.", "s.a.b.c", "s.{}x", "s.x{}", "s.\udc80", "s." + "." * 300])
async def test_spoiled_sessions_are_not_known(host: Host, spoil: str) -> None:
    await host.add("ada")
    token = (await host.login("ada", PASSWORD)).token.removeprefix("s.")
    with pytest.raises(Forbidden, match="not known"):
        await host.accepts(spoil.format(token))


async def test_before_the_first_login_no_session_is_known(host: Host) -> None:
    with pytest.raises(Forbidden, match="not known"):
        await host.accepts("s.anything")


# one's own password ---------------------------------------------------------------------------------------


async def test_a_new_password_of_ones_own_ends_all_sessions_but_the_new_one(host: Host) -> None:
    await host.add("ada")
    token = (await host.login("ada", PASSWORD)).token
    session = await host.change_password("ada", ChangePassword(old=PASSWORD, new="another one"))
    with pytest.raises(SessionEnded):
        await host.accepts(token)
    assert (await host.accepts(session.token)).user == "ada"
    with pytest.raises(Forbidden):
        await host.login("ada", PASSWORD)
    await host.login("ada", "another one")


async def test_the_old_password_is_asked_for(host: Host) -> None:
    await host.add("ada")
    with pytest.raises(Forbidden, match="old password"):
        await host.change_password("ada", ChangePassword(old="wrong", new="another one"))
    with pytest.raises(InvalidInput, match="is the old one"):
        await host.change_password("ada", ChangePassword(old=PASSWORD, new=PASSWORD))
    assert [e.subject for e in await host.told("user.login-failed")] == ["ada"]


# events ---------------------------------------------------------------------------------------------------


async def test_events_tell_who_did_it_and_no_secrets(host: Host) -> None:
    held = caller.set(Caller(access=Access.ADMIN, user="root", kind="token"))
    try:
        await host.add("ada")
        await host.change_user("ada", ChangeUser(access=Access.VIEWER, password="another one"))
        await host.delete_user("ada")
    finally:
        caller.reset(held)
    await host.add("bob")
    told = await host.told("user")
    assert [(e.kind, e.subject, e.by) for e in told] == [
        ("user.created", "ada", "token root"),
        ("user.changed", "ada", "token root"),
        ("user.deleted", "ada", "token root"),
        ("user.created", "bob", ""),
    ]
    assert told[1].message == "ada is viewer now and has a new password; its sessions are over"
    assert "another one" not in str(told)
    assert PASSWORD not in str(told)


async def test_a_failed_login_is_told_with_its_address(host: Host) -> None:
    await host.add("ada")
    for user in ("ada", "hunter2"):
        with pytest.raises(Forbidden):
            await host.login(user, "wrong", client="192.0.2.7")
    told = await host.told("user.login-failed")
    assert [e.subject for e in told] == ["ada", "unknown"]
    assert all(e.evidence["client"] == "192.0.2.7" for e in told)
    assert "hunter2" not in str(told), "many type their password where the name belongs"
