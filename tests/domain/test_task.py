from __future__ import annotations

import pytest

from zugvogel.domain.task import Event


def event(kind: str, subject: str, host: str = "host1") -> Event:
    return Event(id="e", at="", kind=kind, host=host, subject=subject, message="m")


def test_only_events_of_vms_tell_of_one() -> None:
    assert event("vm.restarted", "web1").its_vm() == "web1"
    assert event("vms.counted", "web1").its_vm() == ""
    assert event("host.failed", "host2").its_vm() == ""


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, True),
        ({"vm": "web1"}, True),
        ({"vm": "web2"}, False),
        ({"subject": "web1", "host": "host1", "kind": "vm.restarted"}, True),
        ({"host": "host2"}, False),
        ({"kind": "vm"}, True),
        ({"kind": "v"}, False),
        ({"kind": "vm.rest"}, False),
        ({"kind": "host"}, False),
        ({"vm": "web1", "kind": "host"}, False),
    ],
)
def test_events_of_a_vm_are_chosen(wanted: dict[str, str], found: bool) -> None:
    assert event("vm.restarted", "web1").is_wanted(**wanted) is found


def test_a_hosts_events_are_those_it_saw_and_those_that_tell_of_it() -> None:
    failed = event("host.failed", "host2", host="host1")
    assert [failed.is_wanted(host=h) for h in ("host1", "host2", "host3")] == [True, True, False]
    assert not event("vm.started", "host2", host="host1").is_wanted(host="host2")
    assert not failed.is_wanted(vm="host2")
