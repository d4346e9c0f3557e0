"""Placement: the roomiest fit host, with a reason; the same state gives the same answer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.core.facts import GIB, definition, status
from zugvogel.core.placement import explain_none, weigh
from zugvogel.domain.host import Verdict
from zugvogel.domain.network import Network

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
