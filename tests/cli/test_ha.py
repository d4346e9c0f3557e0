from __future__ import annotations

import io
import re
import sys

import pytest

from tests.cli.conftest import Served, Zv


def test_the_status_in_words_and_as_json(zv: Zv) -> None:
    assert zv("ha", "disable", "--yes").code == 0
    assert "no failure" in zv("ha", "status").out
    assert zv("ha", "enable").code == 0
    found = zv("ha", "status", "--json").json
    assert (found["active_primary"], found["failover_level"], found["admission"]["used"]) == (
        "host1",
        1,
        6 * 2**30,
    )
    told = zv("ha", "status").out
    for text in ("host1 (of shared)", "15 s without", "the failure of 1 host", "used 6.0 GiB", "web7 waits"):
        assert text in told
    for text in ("largest vm to start", "1.0 GiB"):
        assert text in told


def test_a_protection_and_its_reason_are_told_once_for_all_their_hosts(zv: Zv) -> None:
    told = zv("ha", "status").out
    assert told.count("none is fed") == 1
    (line,) = [line for line in told.splitlines() if line.startswith("watchdog")]
    assert line.split()[:5] == ["watchdog", "host1,", "host2", "no", "none"]


def test_long_reasons_wrap_at_the_width_of_the_terminal(zv: Zv, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("COLUMNS", "60"), ("FORCE_COLOR", "1")):
        monkeypatch.setenv(name, value)
    told = re.sub(r"\x1b\[[0-9;]*m", "", zv("ha", "status").out)
    table = told[told.index("PROTECTION") :].partition("\n\n")[0]
    assert "host1, host2" in table
    assert max(len(line.rstrip()) for line in table.splitlines()) <= 60


def test_the_figures_stand_alone_where_the_terminal_is_narrow(zv: Zv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    told = zv("ha", "status").out
    assert "used 6.0 GiB\nreserved 4.0 GiB\nfree 2.0 GiB\n" in told
    assert "█" not in told


def test_enabling_tells_what_is_missing_by_cause(zv: Zv) -> None:
    told = zv("ha", "enable").out
    assert "high availability is enabled" in told
    assert "watchdog of host1, host2: none is fed" in told
    assert zv("ha", "status", "--json").json["enabled"] is True


def test_disabling_asks_first(zv: Zv, monkeypatch: pytest.MonkeyPatch) -> None:
    assert zv("ha", "enable", "--json").json["enabled"] is True
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    refused = zv("ha", "disable")
    assert (refused.code, "stay down" in refused.err) == (1, True)
    assert zv("ha", "status", "--json").json["enabled"] is True
    assert zv("ha", "disable", "--yes", "--json").json["enabled"] is False
    assert "is disabled" in zv("ha", "disable", "--yes").out


def test_a_plan_of_what_would_not_come_by_itself_fails(zv: Zv) -> None:
    ran = zv("ha", "plan", "--fail", "host2")
    assert ran.code == 1
    assert "if host2 fails: 0 of 1 vm would be restarted by itself" in ran.out
    assert "not by itself: high availability is disabled" in ran.out
    assert "not every vm fits" not in ran.out


def test_a_plan_for_several_hosts(zv: Zv) -> None:
    zv("ha", "enable")
    ran = zv("ha", "plan", "--fail", "host2")
    assert ran.code == 0, ran.err
    assert "if host2 fails: 1 of 1 vm would be restarted" in ran.out
    for words in (("--fail", "host1,host2"), ("--fail", "host1", "--fail", "host2")):
        ran = zv("ha", "plan", *words)
        assert ran.code == 1
        assert "if host1, host2 fail: 0 of 1 vm" in ran.out
        assert "no host is left" in ran.out
    assert zv("ha", "plan", "--fail", "host1,host2", "--json").json["hosts"] == ["host1", "host2"]
    assert zv("ha", "plan").code == 2
    assert zv("ha", "plan", "--fail", "host9").code == 1


def test_a_plan_for_no_host_is_refused_with_a_next_step(zv: Zv) -> None:
    for nobody in ("", ",", " "):
        ran = zv("ha", "plan", "--fail", nobody)
        assert (ran.code, "--fail names no host" in ran.err, "zv host list" in ran.err) == (2, True, True)
    ran = zv("ha", "plan", "--fail", "a b")
    assert ran.code == 2
    assert "fail: a host's name has" in ran.err


def test_an_explanation(zv: Zv) -> None:
    told = zv("ha", "explain", "host2").out
    assert told.startswith("host host2: live\n  - heartbeat 0.4 s ago\n")
    assert "(judged by host1)" in told
    assert zv("ha", "explain", "web1", "--json").json["kind"] == "vm"
    assert zv("ha", "explain", "host2", "--vm").code == 1


def test_the_policy_of_a_vm(zv: Zv, served: Served) -> None:
    policy = ("--restart-priority", "high", "--isolation-response", "suspend", "--anti-affinity", "db",
              "--prefer", "host2,host1", "--monitoring", "guest")  # fmt: skip
    assert zv("vm", "create", "p1", "--memory", "64M", *policy).code == 0
    asked = served.backend.created[-1].ha
    assert (asked.restart_priority, asked.isolation_response, asked.anti_affinity) == ("high", "suspend", "db")
    assert (asked.preferred_hosts, asked.monitoring) == (("host2", "host1"), "guest")
    changed = zv("vm", "set", "web1", *policy)
    assert changed.out == "web1 is changed\n"
    told = zv("vm", "show", "web1").out
    for text in ("high", "suspend", "db", "host2, host1", "guest"):
        assert text in told
    found = zv("vm", "set", "web1", "--prefer", "", "--anti-affinity", "", "--json").json["definition"]["ha"]
    assert (found["preferred_hosts"], found["anti_affinity"], found["restart_priority"]) == ([], "", "high")
    assert zv("vm", "set", "web1", "--cpus", "3").out == "web1 is changed; it takes effect at its next start\n"
    assert zv("vm", "set", "web1", "--restart-priority", "urgent").code == 2
    for words in ((), ("--json",)):
        nothing = zv("vm", "set", "web1", *words)
        assert (nothing.code, nothing.out) == (2, "")
        assert "nothing of web1 is to be changed; e.g. zv vm set" in nothing.err
    assert zv("vm", "set", "web1", "--memory", "").code == 2
    assert zv("vm", "set", "web1", "--description", "").code == 0


def test_priorities_are_listed_only_with_high_availability(zv: Zv) -> None:
    zv("ha", "disable", "--yes")
    assert "PRIORITY" not in zv("vm", "list").out
    zv("ha", "enable")
    assert "PRIORITY" in zv("vm", "list").out


def test_forcing_a_start(zv: Zv, served: Served) -> None:
    assert zv("vm", "start", "web1").code == 0
    assert zv("vm", "start", "web1", "--force").code == 0
    assert [s.is_forced for s in served.backend.started[-2:]] == [False, True]


def test_forcing_a_new_vm(zv: Zv, served: Served) -> None:
    assert zv("vm", "create", "room1", "--memory", "64M").code == 0
    assert zv("vm", "create", "room2", "--memory", "64M", "--force").code == 0
    assert [vm.is_forced for vm in served.backend.created[-2:]] == [False, True]


def test_the_active_primary_is_marked(zv: Zv) -> None:
    lines = zv("host", "list").out.splitlines()
    assert [line.split()[1] for line in lines[1:]] == ["primary*", "primary"]
    assert [h["is_active_primary"] for h in zv("host", "list", "--json").json] == [True, False]
    assert "primary, active" in zv("host", "show", "host1").out


def test_events_have_the_fixed_fields_and_are_chosen(zv: Zv) -> None:
    (event,) = zv("event", "list", "--vm", "web1", "--json").json
    assert {k: event[k] for k in ("event", "host", "vm", "cause")} == {
        "event": "vm.started",
        "host": "host1",
        "vm": "web1",
        "cause": "web1 started",
    }
    assert event["at"]
    assert [e["event"] for e in zv("event", "list", "--host", "host2", "--json").json] == ["host.failed"]
    assert [e["event"] for e in zv("event", "list", "--kind", "vm", "--json").json] == ["vm.started"]


def test_events_of_nobody_are_an_error_and_none_are_told(zv: Zv) -> None:
    for words in (("--host", "host99"), ("--vm", "web99"), ("--host", "host99", "--json")):
        ran = zv("event", "list", *words)
        assert (ran.code, ran.out) == (1, "")
        assert "there is no" in ran.err
        assert "list" in ran.err
    assert zv("event", "list", "--kind", "datastore").out == "no events\n"
    assert zv("event", "list", "--kind", "datastore", "--json").json == []


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("das.failoverlevel", "many", "das.failoverlevel takes 0 to 4 hosts, not 'many'"),
        ("das.failoverlevel", "9", "das.failoverlevel takes 0 to 4 hosts, not 9"),
        ("das.usedefaultisolationaddress", "perhaps", "takes on or off, not 'perhaps'"),
        ("das.isolationresponse", "reboot", "takes leave, shutdown, poweroff or suspend, not 'reboot'"),
        (
            "das.failuredetectioninterval",
            "4000",
            "at most a fifteenth of das.failuredetectiontime (15000 ms): 1000 ms",
        ),
        ("das.failuredetectiontime", "15 s", "write the number alone, in ms"),
    ],
)
def test_settings_say_what_they_take(zv: Zv, name: str, value: str, told: str) -> None:
    ran = zv("settings", "set", name, value)
    assert ran.code == 2
    assert told in ran.err
    assert "; e.g. " in ran.err or "; choose" in ran.err, "the next step"


def test_settings_are_listed_with_what_they_may_be(zv: Zv) -> None:
    told = zv("settings", "list").out
    assert "ALLOWED" in told
    assert "3000 to 120000 " in told
    assert "leave, shutdown, poweroff or suspend" in told
