"""Whether a scenario names only what is there, and asks for nothing that cannot be."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING

from zugvogel.domain.event_kinds import EVENT_KINDS
from zugvogel.domain.settings import SETTINGS, Value, refuse_unfit
from zugvogel.errors import InvalidInput

if TYPE_CHECKING:
    from zugvogel.sim.scenario import Action, Scenario

GATEWAY = "gateway"


def wrong(scenario: Scenario) -> Iterator[str]:
    """Each in a sentence, with its place."""
    hosts, vms = [h.name for h in scenario.each_host()], [v.name for v in scenario.each_vm()]
    stores = [d.name for d in scenario.datastores]
    off = {h.name for h in scenario.each_host() if not h.is_on}
    for vm in scenario.each_vm():
        where = f"vm {vm.name}"
        for host in (vm.host, *vm.preferred_hosts):
            yield from _unknown("host", host, hosts, where)
        yield from _unknown("datastore", vm.datastore, stores, where)
        if vm.is_started and vm.host in off:
            yield f"{where} is to run on {vm.host}, which is off"
    for number, action in enumerate(scenario.timeline):
        where = f"timeline.{number} ({action.do} at {action.at_s:g} s)"
        named = [*action.all_hosts, *(h for g in action.groups for h in g if h != GATEWAY)]
        for name in (*named, action.to, action.via):
            yield from _unknown("host", name, hosts, where)
        yield from _unknown("vm", action.vm, vms, where)
        yield from _unknown("datastore", action.datastore, stores, where)
        if action.at_s > scenario.horizon_s:
            yield f"{where} would come after the end, at {scenario.horizon_s:g} s"
    yield from _expectations(scenario, hosts, vms)
    yield from _settings(scenario)


def _expectations(scenario: Scenario, hosts: list[str], vms: list[str]) -> Iterator[str]:
    expect = scenario.expect
    ends = [*expect.vms.values(), *((expect.all_vms,) if expect.all_vms is not None else ())]
    for name in (*expect.hosts, *(e.running_on for e in ends), *(expect.primaries or ())):
        yield from _unknown("host", name, hosts, "expect")
    for name in expect.vms:
        yield from _unknown("vm", name, vms, "expect")
    for kind in (*expect.events, *expect.no_events):
        if kind not in EVENT_KINDS:
            yield f"expect names the event {kind}, which there is not (docs/reference/events.md)"


def _settings(scenario: Scenario) -> Iterator[str]:
    """With the values that the others have by then."""
    values: dict[str, Value] = {name: s.default for name, s in SETTINGS.items()} | scenario.settings
    for name, value in scenario.settings.items():
        yield from _unfit(name, value, values.__getitem__, "settings")
    for action in sorted(scenario.timeline, key=_at):
        if action.do == "setting" and action.value is not None and not action.is_refused:
            where = f"setting at {action.at_s:g} s"
            yield from _unfit(action.name, action.value, values.__getitem__, where)
            values[action.name] = action.value


def _at(action: Action) -> float:
    return action.at_s


def _unfit(name: str, value: Value, current: Callable[[str], Value], where: str) -> Iterator[str]:
    if name not in SETTINGS:
        yield f"{where} names setting {name}, which there is not (docs/reference/settings.md)"
        return
    try:
        refuse_unfit(SETTINGS[name], value, current)
    except InvalidInput as error:
        yield f"{where}: {error.cause}"


def _unknown(what: str, name: str | None, names: Collection[str], where: str) -> Iterator[str]:
    if name and name not in names:
        yield f"{where} names {what} {name}, which the scenario does not have"
