"""Placement: the roomiest fit host, with a reason; the same state gives the same answer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.core.facts import GIB, definition, status
from zugvogel.core.placement import Places, Promises, explain_none, weigh
from zugvogel.domain.ha import VmPolicy
from zugvogel.domain.host import HostStatus, Verdict, VmReport
from zugvogel.domain.network import Network
from zugvogel.domain.vm import VmState

LAN = (Network(name="lan", bridges={"*": "br0"}),)


def test_the_host_with_most_memory_free_comes_first() -> None:
    hosts = [status("small", 1, memory_total_bytes=4 * GIB), status("large", 2, memory_total_bytes=64 * GIB)]
    found = weigh(definition(), "nfs1", LAN, hosts)
    assert [c.host for c in found] == ["large", "small"]
    assert "GiB of memory" in found[0].why


def test_each_unfit_host_says_why() -> None:
    hosts = [
        status("dead", 1).model_copy(update={"verdict": Verdict.FAILED}),
        status("full", 2, memory_total_bytes=GIB),
        status("bare", 3, bridges=()),
        status("tiny", 4, cores=1),
    ]
    found = weigh(definition(), "nfs1", LAN, hosts)
    told = explain_none(found)
    assert not any(c.is_fit for c in found)
    for part in ("dead is failed", "full lacks", "bare has no bridge", "tiny has only 1"):
        assert part in told
    assert "does not reach datastore san" in explain_none(weigh(definition(), "san", LAN, [status("h", 1)]))


@given(st.permutations(["a", "b", "c", "d"]))
def test_the_order_of_the_input_does_not_matter(names: list[str]) -> None:
    hosts = [status(n, i + 1) for i, n in enumerate(names)]
    assert [c.host for c in weigh(definition(), "nfs1", LAN, hosts)] == ["a", "b", "c", "d"]


HOSTS = ("a", "b", "c", "d")


@st.composite
def statuses(draw: st.DrawFn) -> list[HostStatus]:
    """Hosts of different sizes and loads, some of them not fit at all."""
    made = []
    for number, name in enumerate(HOSTS, start=1):
        vms = tuple(
            VmReport(name=f"{name}{n}", state=VmState.RUNNING, epoch=1, memory_bytes=draw(SIZES), cpus=1)
            for n in range(draw(st.integers(0, 2)))
        )
        found = status(name, number, vms, cores=draw(st.integers(1, 4)), memory_total_bytes=draw(SIZES) * 4)
        verdict = draw(st.sampled_from([Verdict.LIVE, Verdict.LIVE, Verdict.FAILED]))
        made.append(found.model_copy(update={"verdict": verdict}))
    return made


SIZES = st.integers(1, 8).map(lambda gib: gib * GIB)
WISHES = st.lists(
    st.tuples(
        SIZES, st.integers(1, 3), st.sampled_from(["", "g"]), st.permutations(HOSTS).map(lambda order: order[:2])
    ),
    min_size=1,
    max_size=6,
)


@given(statuses(), WISHES, st.sets(st.sampled_from(HOSTS), max_size=2))
def test_many_vms_find_the_places_that_each_would_find_by_itself(
    hosts: list[HostStatus], wishes: list[tuple[int, int, str, list[str]]], but: set[str]
) -> None:
    places, one, other = Places(hosts), Promises(), Promises()
    left = [h for h in hosts if h.host.name not in but]
    for number, (memory_bytes, cpus, group, preferred) in enumerate(wishes):
        policy = VmPolicy(anti_affinity=group, preferred_hosts=tuple(preferred) if number % 2 else ())
        vm = definition(name=f"vm{number}", memory_bytes=memory_bytes, cpus=cpus, nics=(), ha=policy)
        first = (*weigh(vm, "nfs1", [], left, promises=one), None)[0]
        best = places.best(vm, "nfs1", [], but=but, promises=other)
        assert best == (first if first is not None and first.is_fit else None)
        if best is not None:
            one.take(vm, best.host)
            other.take(vm, best.host)
