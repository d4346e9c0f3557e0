from __future__ import annotations

from typing import Any

import pytest

from zugvogel.client import Change, Picture, Ready, Trouble
from zugvogel.client.watching import Message, message_of
from zugvogel.domain.network import Network

BRIDGES = {"*": "br0"}
LAN, SAN = {"name": "lan", "mtu": 1500, "bridges": BRIDGES}, {"name": "san", "mtu": 9000, "bridges": BRIDGES}
WHOLE = Change("networks", True, {"lan": LAN, "san": SAN})


def picture(*messages: Message) -> Picture:
    made = Picture()
    for message in messages:
        made.apply(message)
    return made


@pytest.mark.parametrize(
    ("event", "data", "message"),
    [
        ("ready", {}, Ready()),
        ("trouble", {"topic": "vms", "cause": "no majority"}, Trouble("vms", "no majority")),
        ("vms", {"whole": False, "changed": {"a": {}}, "gone": ["b"]}, Change("vms", False, {"a": {}}, ("b",))),
        ("weather", {"sunny": True}, None),
    ],
)
def test_messages(event: str, data: Any, message: Message | None) -> None:
    assert message_of(event, data) == message


def test_fields_that_changed_are_merged_and_what_is_gone_is_gone() -> None:
    seen = picture(WHOLE, Change("networks", False, {"lan": {"mtu": 9000}, "new": {"name": "new"}}, ("san",)))
    assert seen.raw == {"networks": {"lan": LAN | {"mtu": 9000}, "new": {"name": "new"}}}
    assert picture(WHOLE).networks["lan"] == Network(name="lan", mtu=1500, bridges=BRIDGES)


def test_a_whole_makes_void_what_was_known() -> None:
    seen = picture(WHOLE, Change("networks", True, {"lan": {"name": "lan"}}))
    assert seen.raw["networks"] == {"lan": {"name": "lan"}}


def test_the_message_is_left_as_it_was() -> None:
    picture(WHOLE, Change("networks", False, {"lan": {"mtu": 1}}, ("san",)))
    assert WHOLE.changed["lan"]["mtu"] == 1500
    assert "san" in WHOLE.changed


def test_trouble_comes_and_goes() -> None:
    bad = Trouble("tasks", "no majority", "wait")
    seen = picture(WHOLE, bad)
    assert seen.troubles == {"tasks": bad}
    seen.apply(Trouble("tasks", ""))
    assert seen.troubles == {}
    assert seen.networks


def test_nothing_is_known_at_first() -> None:
    seen = picture()
    assert (seen.cluster, seen.ha, seen.vms, seen.is_ready) == (None, None, {}, False)
