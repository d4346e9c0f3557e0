"""P1 to P7: who is primary, and who takes whose place."""

from __future__ import annotations

from itertools import permutations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zugvogel.core import roles
from zugvogel.core.roles import PRIMARIES, Changes, Policy
from zugvogel.domain.host import Host, Role

P, S = Role.PRIMARY, Role.SECONDARY
ADAPTIVE = Policy(600.0)


def host(number: int, role: Role, domain: str = "", *, is_in_maintenance: bool = False) -> Host:
    return Host(
        name=f"h{number}", address=f"192.0.2.{number}", role=role, ordinal=number, joined_at="",
        is_in_maintenance=is_in_maintenance, failure_domain=domain,
    )  # fmt: skip


def cluster(primaries: int, secondaries: int, *domains: str) -> list[Host]:
    """h1.. primaries, then secondaries; `domains` from h1 on."""
    kinds = [P] * primaries + [S] * secondaries
    labels = [*domains, *[""] * len(kinds)]
    return [host(n, role, labels[n - 1]) for n, role in enumerate(kinds, 1)]


def everybody(hosts: list[Host]) -> frozenset[str]:
    return frozenset(h.name for h in hosts)


def after(hosts: list[Host], changes: Changes) -> list[Host]:
    return [h.model_copy(update={"role": changes.get(h.name, h.role)}) for h in hosts]


def primaries(hosts: list[Host]) -> list[str]:
    return [h.name for h in hosts if h.role is P]


# P1 and P5 ----------------------------------------------------------------------------------------------


def test_the_first_five_are_primaries() -> None:
    hosts: list[Host] = []
    for number in range(1, 9):
        hosts.append(host(number, roles.role_for_new_host(hosts)))
        assert roles.next_ordinal(hosts) == number + 1
    assert [h.role for h in hosts] == [P] * 5 + [S] * 3


@pytest.mark.parametrize("change", [roles.on_removal, roles.on_leave])
@pytest.mark.parametrize("leaving", ["h1", "h3", "h5"])
def test_the_secondary_added_first_takes_the_place(change: object, leaving: str) -> None:
    hosts = cluster(5, 3)
    found = change(hosts, leaving, everybody(hosts))  # type: ignore[operator]
    assert found.pop("h6") is P
    assert found == ({leaving: S} if change is roles.on_leave else {})


@pytest.mark.parametrize("change", [roles.on_removal, roles.on_leave])
def test_a_secondarys_leave_changes_nothing(change: object) -> None:
    hosts = cluster(5, 3)
    assert change(hosts, "h7", everybody(hosts)) == {}  # type: ignore[operator]
    assert change(hosts, "nobody", everybody(hosts)) == {}  # type: ignore[operator]


def test_only_a_live_secondary_that_is_not_in_maintenance_takes_a_place() -> None:
    hosts = [*cluster(5, 0), host(6, S), host(7, S, is_in_maintenance=True), host(8, S)]
    assert roles.on_leave(hosts, "h2", everybody(hosts) - {"h6"}) == {"h2": S, "h8": P}
    assert roles.on_leave(hosts, "h2", frozenset({"h1", "h7"})) == {}, "it keeps the role nobody else can take"


def test_a_place_goes_to_the_emptiest_failure_domain() -> None:
    hosts = cluster(5, 3, "a", "a", "b", "b", "c", "a", "b", "c")
    assert roles.heir(hosts, "h5", everybody(hosts)) == hosts[7]
    assert roles.heir(hosts, "h1", everybody(hosts)) == hosts[5], "one in a, two in b, one in c: the older of a, c"
    assert roles.heir(hosts, "h3", everybody(hosts)) == hosts[6], "one in b, one in c, two in a"


def test_a_host_without_a_label_is_a_domain_of_its_own() -> None:
    hosts = cluster(5, 2, "a", "a", "b", "", "", "b", "")
    assert roles.heir(hosts, "h1", everybody(hosts)) == hosts[6]


# what is due --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failed", [{"h1"}, {"h1", "h2", "h3", "h4"}, {"h6"}])
def test_under_static_a_failure_promotes_nobody_however_long(failed: set[str]) -> None:
    hosts = cluster(5, 3)
    ages = dict.fromkeys(failed, 1e9)
    assert roles.due(hosts, everybody(hosts) - failed, ages, Policy()) is None


def test_under_adaptive_the_primary_that_failed_first_is_replaced_when_its_time_is_up() -> None:
    hosts = cluster(5, 3)
    ready = everybody(hosts) - {"h2", "h4"}
    assert roles.due(hosts, ready, {"h2": 599.9, "h4": 100.0}, ADAPTIVE) is None
    found = roles.due(hosts, ready, {"h2": 600.0, "h4": 700.0}, ADAPTIVE)
    assert found is not None
    assert found.changes == {"h4": S, "h6": P}
    assert found.why == "h4 has been failed for 700 s"
    again = roles.due(after(hosts, found.changes), ready, {"h2": 601.0, "h4": 701.0}, ADAPTIVE)
    assert again is not None
    assert again.changes == {"h2": S, "h7": P}
    assert roles.due(after(hosts, found.changes), ready, {"h4": 701.0}, ADAPTIVE) is None


def test_under_adaptive_nobody_is_replaced_by_nobody() -> None:
    hosts = cluster(5, 1)
    assert roles.due(hosts, everybody(hosts) - {"h1", "h6"}, {"h1": 1e6, "h6": 1e6}, ADAPTIVE) is None


def test_a_place_left_vacant_is_taken_when_somebody_can() -> None:
    hosts = [h for h in cluster(5, 2) if h.name != "h2"]
    assert roles.due(hosts, everybody(hosts) - {"h6", "h7"}, {}, Policy()) is None
    found = roles.due(hosts, everybody(hosts) - {"h6"}, {}, Policy())
    assert found is not None
    assert found.changes == {"h7": P}


def test_a_primary_in_maintenance_hands_over_later_when_nobody_could_at_first() -> None:
    hosts = [host(1, P), host(2, P, is_in_maintenance=True), host(3, P), host(4, P), host(5, P)]
    assert roles.due(hosts, everybody(hosts), {}, Policy()) is None
    found = roles.due([*hosts, host(6, S)], everybody(hosts) | {"h6"}, {}, Policy())
    assert found is not None
    assert found.changes == {"h2": S, "h6": P}


def test_nothing_is_due_in_every_state_that_is_as_it_should_be() -> None:
    for count, policy in product(range(1, 9), (Policy(), ADAPTIVE)):
        hosts = cluster(min(count, PRIMARIES), max(0, count - PRIMARIES))
        assert roles.due(hosts, everybody(hosts), {}, policy) is None


# P6 -----------------------------------------------------------------------------------------------------


def test_reconfigure_takes_the_first_of_the_order() -> None:
    hosts = cluster(5, 3)
    order = ["h8", "h2", "h7", "h4", "h6", "h1", "h3", "h5"]
    changed = roles.reconfigure(hosts, order, everybody(hosts))
    assert primaries(after(hosts, changed)) == ["h2", "h4", "h6", "h7", "h8"]
    assert changed == {"h1": S, "h3": S, "h5": S, "h6": P, "h7": P, "h8": P}


def test_every_order_of_six_hosts_leaves_out_the_last() -> None:
    hosts = cluster(5, 1)
    for order in permutations([h.name for h in hosts]):
        changed = roles.reconfigure(hosts, order, everybody(hosts))
        assert set(primaries(after(hosts, changed))) == set(order[:5])


def test_reconfigure_spreads_over_failure_domains() -> None:
    hosts = cluster(5, 4, "a", "a", "a", "b", "b", "b", "c", "c", "c")
    order = ["h1", "h2", "h3", "h4", "h5", "h6", "h7", "h8", "h9"]
    chosen = primaries(after(hosts, roles.reconfigure(hosts, order, everybody(hosts))))
    assert chosen == ["h1", "h2", "h4", "h5", "h7"]


def test_a_failed_primary_keeps_its_place_only_when_too_few_others_are_ready() -> None:
    hosts = cluster(5, 1)
    order = ["h1", "h2", "h3", "h4", "h5", "h6"]
    assert roles.reconfigure(hosts, order, everybody(hosts) - {"h1"}) == {"h1": S, "h6": P}
    assert roles.reconfigure(hosts, order, everybody(hosts) - {"h1", "h2"}) == {"h2": S, "h6": P}
    assert roles.reconfigure(hosts, order, frozenset()) == {}


hosts_ = st.lists(
    st.tuples(st.sampled_from(["", "a", "b", "c"]), st.booleans(), st.booleans()), min_size=1, max_size=12
)


def _drawn(facts: list[tuple[str, bool, bool]]) -> tuple[list[Host], frozenset[str]]:
    hosts: list[Host] = []
    for number, (domain, is_in_maintenance, _) in enumerate(facts, 1):
        hosts.append(host(number, roles.role_for_new_host(hosts), domain, is_in_maintenance=is_in_maintenance))
    return hosts, frozenset(h.name for h, (_, _, ready) in zip(hosts, facts, strict=True) if ready)


@given(hosts_, st.randoms())
def test_reconfigure_never_leaves_fewer_primaries_nor_promotes_one_that_is_not_ready(
    facts: list[tuple[str, bool, bool]], chance: object
) -> None:
    hosts, ready = _drawn(facts)
    order = [h.name for h in hosts]
    chance.shuffle(order)  # type: ignore[attr-defined]
    changed = roles.reconfigure(hosts, order, ready)
    assert len(primaries(after(hosts, changed))) == len(primaries(hosts))
    by_name = {h.name: h for h in hosts}
    for name, role in changed.items():
        assert by_name[name].role is not role
        assert role is S or (name in ready and not by_name[name].is_in_maintenance)


@given(hosts_, st.dictionaries(st.sampled_from([f"h{n}" for n in range(1, 13)]), st.floats(0, 1e6)), st.booleans())
def test_what_is_due_ends_and_keeps_the_number_of_primaries(
    facts: list[tuple[str, bool, bool]], failed: dict[str, float], is_adaptive: bool
) -> None:
    hosts, ready = _drawn(facts)
    ready -= failed.keys()
    policy = ADAPTIVE if is_adaptive else Policy()
    for _ in range(len(hosts) + 1):
        found = roles.due(hosts, ready, failed, policy)
        if found is None:
            break
        before, hosts = hosts, after(hosts, found.changes)
        assert len(primaries(before)) <= len(primaries(hosts)) <= PRIMARIES
        promoted = [n for n, role in found.changes.items() if role is P]
        assert len(promoted) == 1
        assert promoted[0] in ready
    assert roles.due(hosts, ready, failed, policy) is None
    if not is_adaptive:
        demoted = {h.name for h in hosts if h.role is S and h.ordinal <= PRIMARIES}
        assert all(h.is_in_maintenance for h in hosts if h.name in demoted), "a failure alone promotes nobody"
