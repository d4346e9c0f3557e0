"""Scenario files: what they may say, and one plain error with its place where they say something else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from zugvogel.errors import InvalidInput
from zugvogel.sim.run import run
from zugvogel.sim.scenario import Scenario, json_schema, load, parse

SMALL = 'title = "t"\nhorizon_s = 10\n[[hosts]]\nname = "host"\ncount = 2\n[[vms]]\nname = "vm"\ncount = 3\n'


def test_counts_become_names_and_vms_go_to_the_hosts_in_turn() -> None:
    found = parse(SMALL, "s.toml")
    assert [h.name for h in found.each_host()] == ["host1", "host2"]
    assert [(v.name, v.host, v.datastore) for v in found.each_vm()] == [
        ("vm1", "host1", "ds1"), ("vm2", "host2", "ds1"), ("vm3", "host1", "ds1")
    ]  # fmt: skip


def test_json_says_the_same(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    path.write_text(json.dumps({"title": "t", "horizon_s": 10, "hosts": [{"name": "h"}]}))
    assert load(path).hosts[0].name == "h"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("title = ", "is no TOML"),
        ('title = "t"\nhorizon_s = 10\nhosts = []\n', "hosts"),
        (SMALL + "[[timeline]]\nat_s = 1\ndo = 'explode'\n", "timeline.0.do"),
        (SMALL + "[[timeline]]\nat_s = 1\ndo = 'power_off'\n", "power_off needs `host` or `hosts`"),
        (SMALL + "[[timeline]]\nat_s = 1\ndo = 'power_off'\nhost = 'host9'\n", "names host host9"),
        (SMALL + "[[timeline]]\nat_s = 1\ndo = 'vm_crash'\nvm = 'x'\n", "names vm x"),
        (SMALL + "[[timeline]]\nat_s = -1\ndo = 'heal'\n", "timeline.0.at_s"),
        (
            SMALL + "[[timeline]]\nat_s = 1\ndo = 'partition'\ngroups = [['host1']]\nis_one_way = true\n",
            "two groups",
        ),
        (SMALL + "[settings]\n'das.nothing' = 1\n", "setting das.nothing"),
        (SMALL + "[settings]\n'das.failuredetectiontime' = 1\n", "das.failuredetectiontime"),
        (SMALL + "[expect.vms]\nvm9 = { runs = true }\n", "names vm vm9"),
        (SMALL + "[expect.vms]\nvm1 = { walks = true }\n", "expect.vms.vm1.walks"),
        (
            SMALL + "[[timeline]]\nat_s = 1\ndo = 'setting'\nname = 'das.no'\nvalue = 1\n",
            "das.no, which there is not",
        ),
        (
            SMALL + "[[timeline]]\nat_s = 1\ndo = 'setting'\nname = 'das.enabled'\nvalue = 'yes'\n",
            "das.enabled takes on or off",
        ),
        (
            SMALL
            + "[[timeline]]\nat_s = 2\ndo = 'setting'\nname = 'das.failuredetectioninterval'\nvalue = 1000\n"
            + "[[timeline]]\nat_s = 1\ndo = 'setting'\nname = 'das.failuredetectiontime'\nvalue = 5000\n",
            "at most a fifteenth",
        ),
        (
            SMALL + "[[timeline]]\nat_s = 1\ndo = 'maintenance_on'\nhosts = ['host1', 'host2']\n",
            "takes one `host`",
        ),
        (SMALL + "[[timeline]]\nat_s = 11\ndo = 'heal'\n", "would come after the end"),
        (SMALL + "[[timeline]]\nat_s = 1\ndo = 'heal'\nhost = 'host1'\n", "heal takes no `host`"),
        (SMALL + "[[timeline]]\nat_s = 1\ndo = 'heal'\nis_refused = true\n", "heal takes no `is_refused`"),
        (
            SMALL + "[[timeline]]\nat_s = 1\ndo = 'partition'\ngroups = [['host1'], ['host2', 'host1']]\n",
            "host1 is in two groups",
        ),
        (SMALL + "[expect]\nno_events = ['host.exploded']\n", "host.exploded"),
        (SMALL + "[expect]\nprimaries = ['host3']\n", "names host host3"),
        (SMALL + "[expect]\nhosts = { host1 = 'dead' }\n", "expect.hosts.host1"),
        (SMALL + "[[vms]]\nname = 'v'\npreferred_hosts = ['host3']\n", "names host host3"),
        (
            SMALL + "[[hosts]]\nname = 'dark'\nis_on = false\n[[vms]]\nname = 'v'\nhost = 'dark'\n",
            "v is to run on dark, which is off",
        ),
        (SMALL.replace("count = 2", "is_on = false"), "no host is on"),
        (SMALL + "[[hosts]]\nname = 'host1'\n", "host1 is named twice"),
        (SMALL + "[[vms]]\nname = 'v'\nhost = 'nowhere'\n", "names host nowhere"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, told: str) -> None:
    with pytest.raises(InvalidInput) as error:
        parse(text, "s.toml")
    assert told in str(error.value)
    assert "s.toml" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read"):
        load(tmp_path / "none.toml")


def test_the_schema_names_every_field() -> None:
    schema = json_schema()
    assert set(schema["properties"]) == set(Scenario.model_fields)
    assert "power_off" in json.dumps(schema)


REFUSED = SMALL.replace("10", "30") + "[[timeline]]\nat_s = 1\ndo = 'confirm_dead'\nhost = 'host2'\n"


def test_a_wish_that_is_refused_is_a_violation_unless_that_is_expected() -> None:
    unexpected = run(parse(REFUSED, "s.toml"))
    assert [v.rule for v in unexpected.violations] == ["expected"]
    assert "confirm_dead host2 was refused: " in unexpected.violations[0].what
    assert unexpected.answers[0].is_refused
    assert run(parse(REFUSED + "is_refused = true\n", "s.toml")).violations == []
    assert run(parse(REFUSED + "[expect]\nany_answer = true\n", "s.toml")).violations == []


def test_a_wish_that_is_granted_though_it_was_to_be_refused_is_one() -> None:
    text = SMALL + "[[timeline]]\nat_s = 1\ndo = 'vm_stop'\nvm = 'vm1'\nis_refused = true\n"
    assert "was not refused" in run(parse(text, "s.toml")).violations[0].what
