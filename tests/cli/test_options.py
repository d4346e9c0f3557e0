from __future__ import annotations

import pytest

from zugvogel.cli import options


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"/hosts": ["host1", "host2", "db"], "/vms": ["host1", "web1"]}
    monkeypatch.setattr(options, "_names", lambda path, start: [n for n in names[path] if n.startswith(start)])


@pytest.mark.usefixtures("known")
def test_the_last_of_several_hosts_is_completed() -> None:
    assert options.complete_hosts("ho") == ["host1", "host2"]
    assert options.complete_hosts("host1,") == ["host1,host2", "host1,db"]
    assert options.complete_hosts("host1,db,h") == ["host1,db,host2"]


@pytest.mark.usefixtures("known")
def test_hosts_and_vms_are_completed() -> None:
    assert options.complete_subject("h") == ["host1", "host2"]


def test_names_come_repeated_or_with_commas() -> None:
    assert options.names_of(["a,b", " c ", ""]) == ["a", "b", "c"]
