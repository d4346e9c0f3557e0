from __future__ import annotations

from typing import Any

import pytest

from zugvogel.domain.settings import DETECTION_TIME, INTERVAL, SETTINGS, allowed, in_effect, refuse_unfit
from zugvogel.errors import InvalidInput


def refuse(name: str, value: Any, **others: Any) -> None:
    known = {n: s.default for n, s in SETTINGS.items()} | others
    refuse_unfit(SETTINGS[name], value, known.__getitem__)


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=lambda s: s.name)
def test_each_default_is_allowed_and_told(setting: Any) -> None:
    refuse(setting.name, setting.default)
    assert setting.reason
    assert allowed(setting)
    if isinstance(setting.default, int) and not isinstance(setting.default, bool):
        for beyond in (setting.minimum - 1, setting.maximum + 1):
            with pytest.raises(InvalidInput, match=f"{setting.minimum} to {setting.maximum}"):
                refuse(setting.name, beyond)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("das.enabled", 1, "das.enabled takes on or off, not 1"),
        ("das.failoverlevel", True, "das.failoverlevel takes 0 to 4 hosts, not True"),
        ("das.failoverlevel", "2", "das.failoverlevel takes 0 to 4 hosts, not '2'"),
        ("das.isolationresponse", "reboot", "takes leave, shutdown, poweroff or suspend, not 'reboot'"),
        ("das.isolationaddress3", "gateway", "takes an IP address, or nothing, not 'gateway'"),
    ],
)
def test_what_does_not_fit_is_told_with_what_does(name: str, value: Any, told: str) -> None:
    with pytest.raises(InvalidInput) as error:
        refuse(name, value)
    assert told in error.value.cause
    assert f"zv settings set {name}" in error.value.next_step


@pytest.mark.parametrize("address", ["", "192.0.2.1", "2001:db8::1"])
def test_isolation_addresses(address: str) -> None:
    refuse("das.isolationaddress1", address)


@pytest.mark.parametrize(
    ("detection_ms", "interval_ms", "fits"),
    [(15000, 1000, True), (15000, 1001, False), (3000, 200, True), (3000, 201, False), (120_000, 8_000, True)],
)
def test_fifteen_signs_of_life_fit_into_detection_time(detection_ms: int, interval_ms: int, fits: bool) -> None:
    if fits:
        refuse(INTERVAL, interval_ms, **{DETECTION_TIME: detection_ms})
        return
    with pytest.raises(InvalidInput, match=f"{detection_ms // 15} ms, not {interval_ms}"):
        refuse(INTERVAL, interval_ms, **{DETECTION_TIME: detection_ms})


def test_the_fast_profile_is_one_setting_the_interval_follows_it() -> None:
    refuse(DETECTION_TIME, 3000)
    now = {DETECTION_TIME: 3000}
    assert in_effect(INTERVAL, 1000, now.__getitem__) == 200
    assert in_effect(INTERVAL, 100, now.__getitem__) == 100
    assert in_effect("das.failoverlevel", 2, now.__getitem__) == 2
    now[DETECTION_TIME] = 15000
    assert in_effect(INTERVAL, 1000, now.__getitem__) == 1000
