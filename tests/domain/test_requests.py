from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from zugvogel.domain.requests import AddNetwork, CreateVm, Maintenance, MigrateVm, SetSetting, StopVm, SuspendVm


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (StopVm, {"timeout_s": False}),
        (StopVm, {"timeout_s": "5"}),
        (SuspendVm, {"is_compressed": "yes"}),
        (Maintenance, {"is_on": 1}),
        (CreateVm, {"name": "web1", "cpus": True, "memory_bytes": 2**30}),
        (AddNetwork, {"name": "lan", "bridge": "br0", "vlan": "7"}),
        (MigrateVm, {"options": {"channels": "4"}}),
        (MigrateVm, {"options": {"is_encrypted": "no"}}),
        (MigrateVm, {"save": {"is_streamed": 0}}),
    ],
)
def test_values_of_another_type_are_errors(kind: Any, told: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"valid (integer|boolean)"):
        kind.model_validate(told)


@pytest.mark.parametrize("told", [{"options": {"max_downtime": 5}}, {"save": {"compressed": True}}])
def test_a_misspelt_option_is_an_error(told: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        MigrateVm.model_validate(told)


@pytest.mark.parametrize("told", [{"channels": 17}, {"timeout_s": -1}, {"max_downtime_ms": 10_001}])
def test_options_of_a_migration_have_the_bounds_of_the_settings(told: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match=r"less than|greater than"):
        MigrateVm.model_validate({"options": told})


@pytest.mark.parametrize("value", [True, 5, "text"])
def test_a_settings_value_keeps_its_type(value: bool | int | str) -> None:
    held = SetSetting.model_validate({"value": value}).value
    assert type(held) is type(value)
    assert held == value
