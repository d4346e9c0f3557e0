"""zugvogel.core.fencing"""

from __future__ import annotations

import pytest

from zugvogel.core.fencing import MASK, NO_POWER, is_secret, refuse_unfit, shown, sorted_out
from zugvogel.domain.host import FenceConfig
from zugvogel.errors import InvalidInput


def config(**changes: object) -> FenceConfig:
    fields = {"agent": "fence_ipmilan", "parameters": {"ip": "192.0.2.13"}, "secrets": {"password": "s3cret"}}
    return FenceConfig.model_validate(fields | changes)


def test_a_usual_one_is_taken() -> None:
    refuse_unfit(config(parameters={"ip": "192.0.2.13", "username": "fence", "lanplus": "1", "plug": "3"}))


@pytest.mark.parametrize("agent", sorted(NO_POWER))
def test_agents_that_cut_no_power_are_refused(agent: str) -> None:
    with pytest.raises(InvalidInput, match="does not do"):
        refuse_unfit(config(agent=agent))


@pytest.mark.parametrize(
    "name",
    [
        "action", "nodename", "debug", "debug_file", "verbose", "ipmitool_path", "passwd_script", "ssh_options",
        "--ip", "IP", "ip address", "a=b", "", "i\np",
    ],
)  # fmt: skip
@pytest.mark.parametrize("field", ["parameters", "secrets"])
def test_what_would_run_code_write_passwords_or_change_the_call_is_refused(name: str, field: str) -> None:
    with pytest.raises(InvalidInput):
        refuse_unfit(config(**{field: {name: "x"}}))


@pytest.mark.parametrize("value", ["a\naction=on", "a\rb", "a\0b", "x" * 1001])
def test_a_value_stays_one_line(value: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        refuse_unfit(config(secrets={"password": value}))
    assert value not in str(refused.value)


def test_nothing_is_given_twice() -> None:
    with pytest.raises(InvalidInput, match="twice"):
        refuse_unfit(config(secrets={"ip": "x"}))


@pytest.mark.parametrize(
    "name", ["password", "passwd", "snmp_priv_passwd", "api_key", "apikey", "token", "community"]
)
def test_secrets_are_known_by_their_names(name: str) -> None:
    assert is_secret(name)
    found = sorted_out(config(parameters={"ip": "192.0.2.13", name: "s3cret"}, secrets={}))
    assert (found.parameters, found.secrets) == ({"ip": "192.0.2.13"}, {name: "s3cret"})


@pytest.mark.parametrize("name", ["ip", "username", "plug", "identity_file", "ipport", "power_wait"])
def test_others_are_not(name: str) -> None:
    assert not is_secret(name)


def test_a_secret_is_never_shown() -> None:
    found = config()
    assert shown(found) == {"ip": "192.0.2.13", "password": MASK}
    assert "s3cret" not in repr(found)
    with pytest.raises(ValueError, match="agent") as wrong:
        FenceConfig.model_validate({"agent": "rm", "secrets": {"password": "s3cret"}})
    assert "s3cret" not in str(wrong.value)
    with pytest.raises(ValueError, match="secrets") as worse:
        FenceConfig.model_validate({"agent": "fence_ipmilan", "secrets": {"password": ["s3cret"]}})
    assert "s3cret" not in str(worse.value)


@pytest.mark.parametrize(
    "agent", ["ipmilan", "fence_", "fence_a/b", "fence_../x", "fence_A", "/bin/sh", "fence_x\n"]
)
def test_only_fence_agents_are_named(agent: str) -> None:
    with pytest.raises(ValueError, match="fence_ipmilan"):
        config(agent=agent)
