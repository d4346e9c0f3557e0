from __future__ import annotations

import pytest

from tests.api.fake_backend import FakeBackend
from zugvogel import errors
from zugvogel.client.calling import dumped, filled, parsed
from zugvogel.domain.network import Network
from zugvogel.domain.requests import MigrateVm
from zugvogel.domain.vm import VmView


def test_a_value_is_one_part_of_a_path() -> None:
    assert filled("/vms/{name}/log", ("web1",)) == "/vms/web1/log"
    assert filled("/a/{x}/{y}", ("../b?c#d", "{x}")) == "/a/..%2Fb%3Fc%23d/%7Bx%7D"


def test_only_what_was_said_is_sent() -> None:
    assert dumped(MigrateVm(target="host2")) == {"target": "host2"}
    assert dumped(None) is None


async def test_what_a_newer_agent_tells_more_is_passed_over() -> None:
    """Also inside of what people write by hand, where a field that is not known is an error otherwise."""
    [vm] = await FakeBackend().vms()
    told = vm.model_dump(mode="json")
    told["new"] = 1
    told["definition"]["new"] = {"newer": True}
    told["definition"]["nics"][0]["new"] = "x"
    assert parsed(VmView, told) == vm


def test_an_answer_that_is_none() -> None:
    with pytest.raises(errors.ZugvogelError, match=r"0\.mtu: Input should be a valid integer"):
        parsed(list[Network], [{"name": "lan", "bridges": {}, "mtu": "much"}])
    with pytest.raises(errors.ZugvogelError, match="all of it"):
        parsed(VmView, None)
