"""The choices of the command line are those of the product, which it does not import for the sake of speed."""

from __future__ import annotations

import pytest

from zugvogel.cli import vm_policy
from zugvogel.domain import ha
from zugvogel.errors import InvalidInput


def test_the_choices_are_those_of_the_product() -> None:
    assert [p.value for p in vm_policy.Priority] == [p.value for p in ha.RestartPriority]
    assert [m.value for m in vm_policy.Monitoring] == [m.value for m in ha.Monitoring]
    assert [r.value for r in vm_policy.Response] == ["default", *(r.value for r in ha.IsolationResponse)]


def test_only_what_was_given_is_asked_for() -> None:
    assert vm_policy.policy_of(None, None, None, None, None) == {}
    assert vm_policy.policy_of(vm_policy.Priority.LOW, None, "", " host1, host2 ,", None) == {
        "restart_priority": "low",
        "anti_affinity": "",
        "preferred_hosts": ["host1", "host2"],
    }


@pytest.mark.parametrize("text", [",", " ", " , "])
def test_the_preferred_hosts_are_cleared_only_where_that_is_said(text: str) -> None:
    with pytest.raises(InvalidInput, match="names no host"):
        vm_policy.policy_of(None, None, None, text, None)
    assert vm_policy.policy_of(None, None, None, "", None) == {"preferred_hosts": []}
