"""Whether a simulated world has become what its scenario expects."""

from __future__ import annotations

from collections.abc import Iterator

from zugvogel.domain.host import HostStatus, Role
from zugvogel.sim.record import Recorder
from zugvogel.sim.scenario import Scenario, VmExpected
from zugvogel.sim.world import World


def unmet(scenario: Scenario, world: World, recorder: Recorder, origin_s: float) -> Iterator[str]:
    """Each in a sentence."""
    expect = scenario.expect
    for vm in scenario.each_vm():
        wanted = expect.vms.get(vm.name, expect.all_vms)
        if wanted is not None:
            yield from _vm(vm.name, wanted, world, recorder, origin_s)
    yield from _hosts(scenario, world)
    told = {event.kind for _, event in world.events}
    for kind in expect.events:
        if kind not in told:
            yield f"no event {kind} was told"
    for kind in expect.no_events:
        if kind in told:
            first = next(event for _, event in world.events if event.kind == kind)
            yield f"the event {kind} was told: {first.message}"
    if expect.primaries is not None:
        now = sorted(h.name for h in world.host_records() if h.role is Role.PRIMARY)
        if now != sorted(expect.primaries):
            yield f"the primaries are {', '.join(now)}, not {', '.join(sorted(expect.primaries))}"


def _vm(name: str, wanted: VmExpected, world: World, recorder: Recorder, origin_s: float) -> Iterator[str]:
    on = recorder.going_on(name)
    where = f"runs on {' and '.join(on)}" if on else "runs nowhere"
    if wanted.running_on is not None and on != [wanted.running_on]:
        yield f"{name} {where}, not on {wanted.running_on}"
    if wanted.runs is not None and wanted.runs != (len(on) == 1):
        yield f"{name} {where}"
    if wanted.stopped is not None and wanted.stopped != (not on):
        yield f"{name} {where}"
    runs = recorder.runs.get(name, [])
    if wanted.same_memory is not None and runs:
        is_same = len({run.token for run in runs}) == 1
        if is_same != wanted.same_memory:
            yield f"{name} {'kept its memory' if is_same else 'was booted anew'}"
    if wanted.down_at_most_s is not None:
        down_s = max((gap for _, _, gap in recorder.gaps(name, world.loop.now)), default=0.0)
        if down_s > wanted.down_at_most_s:
            yield f"{name} was down for {down_s:.2f} s, more than {wanted.down_at_most_s:g} s"


def _hosts(scenario: Scenario, world: World) -> Iterator[str]:
    if not scenario.expect.hosts:
        return
    judged = _judged(world)
    for name, verdict in scenario.expect.hosts.items():
        status = judged.get(name)
        if status is None:
            yield f"nobody is left to judge {name}"
        elif status.verdict is not verdict:
            yield f"{name} is judged {status.verdict}, not {verdict}: {status.why}"


def _judged(world: World) -> dict[str, HostStatus]:
    """By the first primary whose agent runs."""
    for record in sorted(world.host_records(), key=lambda h: h.ordinal):
        host = world.hosts[record.name]
        if record.role is Role.PRIMARY and host.is_up and host.agent is not None and not host.agent.is_paused:
            return {s.host.name: s for s in host.agent.services.view.judged()}
    return {}
