from __future__ import annotations

import pytest

from tests.core.facts import definition, status
from zugvogel.core.missing import last_addresses, missing, silent_s, stranded
from zugvogel.domain.ha import RestartPriority, VmPolicy
from zugvogel.domain.host import HostStatus, Verdict, VmReport
from zugvogel.domain.vm import VmRecord, VmState


def record(
    name: str = "web", wanted: str = "running", priority: str = "medium", epoch: int = 3, datastore: str = "nfs1"
) -> VmRecord:
    made = definition(name=name, ha=VmPolicy(restart_priority=RestartPriority(priority)))
    return VmRecord.model_validate(
        {"definition": made, "datastore": datastore, "wanted": wanted, "epoch": epoch, "host": "h1"}
    )


def host(verdict: Verdict, *vms: str, epoch: int = 3, **more: object) -> HostStatus:
    reports = tuple(
        VmReport(name=name, state=VmState.RUNNING, epoch=epoch, memory_bytes=1, cpus=1) for name in vms
    )
    return status("h1", 1, vms=reports).model_copy(update={"verdict": verdict, **more})


@pytest.mark.parametrize("verdict", list(Verdict))
def test_a_report_counts_while_its_host_speaks(verdict: Verdict) -> None:
    speaks = verdict in {Verdict.LIVE, Verdict.MAINTENANCE, Verdict.STORAGE_LOST}
    assert missing([record()], [host(verdict, "web")]) == ([] if speaks else [record()])


@pytest.mark.parametrize(
    ("of", "is_missing"),
    [
        (record(), True),
        (record(wanted="stopped"), False),
        (record(priority="disabled"), False),
        (record(priority="low"), True),
    ],
)
def test_protected_vms_that_nobody_reports_are_missing(of: VmRecord, is_missing: bool) -> None:
    assert bool(missing([of], [host(Verdict.LIVE)])) is is_missing


@pytest.mark.parametrize(
    ("of", "epoch", "is_missing"),
    [
        (record(wanted="stopped", epoch=3), 4, True),
        (record(wanted="stopped", epoch=4), 4, False),
        (record(wanted="stopped", priority="disabled", epoch=3), 4, False),
    ],
)
def test_a_start_the_registry_never_heard_of_is_known_from_a_failed_host(
    of: VmRecord, epoch: int, is_missing: bool
) -> None:
    assert bool(missing([of], [host(Verdict.FAILED, "web", epoch=epoch)])) is is_missing


def kept_frozen(epoch: int, uuid: str = "") -> HostStatus:
    """By a host that is heard and has lost the vm's storage."""
    vm = VmReport(name="web", state=VmState.FROZEN, epoch=epoch, memory_bytes=1, cpus=1, uuid=uuid)
    lost = status("h1", 1, vms=(vm,))
    return lost.model_copy(update={"verdict": Verdict.STORAGE_LOST, "frozen_on": ("nfs1",)})


def ran(epoch: int) -> HostStatus:
    return host(Verdict.FAILED, "web", epoch=epoch, dead_on=("nfs1",))


@pytest.mark.parametrize(
    ("frozen", "others", "is_past"),
    [
        (kept_frozen(3), [], False),
        (kept_frozen(2), [], True),  # taken over, as the registry knows
        (kept_frozen(3), [ran(3)], False),
        (kept_frozen(3), [ran(4)], True),  # taken over by a host that died, which the registry never heard of
        (kept_frozen(4), [ran(3)], False),
        (kept_frozen(9, uuid="of an earlier web"), [], True),  # deleted, and made anew under its name
    ],
)
def test_what_a_host_keeps_frozen_after_it_was_taken_over_hides_nothing(
    frozen: HostStatus, others: list[HostStatus], is_past: bool
) -> None:
    of = record()
    assert bool(missing([of], [frozen, *others])) is is_past
    assert bool(stranded({"web": of}, [frozen, *others], {})) is not is_past


def test_what_is_past_on_one_host_may_run_on_another() -> None:
    assert missing([record()], [kept_frozen(2), host(Verdict.LIVE, "web", epoch=3)]) == []


def test_vms_on_hosts_that_lost_their_storage_are_stranded_since_the_last_beat() -> None:
    lost = host(
        Verdict.STORAGE_LOST,
        *("web", "db", "off", "fine"),
        beat_ages_s={"nfs1": 12.0, "nfs2": 0.4},
        frozen_on=("nfs1", "san"),
    )
    vms = {
        "web": record(),
        "db": record("db", datastore="san"),
        "off": record("off", priority="disabled"),
        "fine": record("fine", datastore="nfs2"),
    }
    found = stranded(vms, [lost, host(Verdict.LIVE, "web")], {"db": "the judge"})
    assert [(s.name, s.host, s.epoch, s.silent_s, s.worker) for s in found] == [
        ("web", "h1", 3, 12.0, ""),
        ("db", "h1", 3, 0.0, "the judge"),
    ]


def test_one_that_stands_still_until_its_heir_answers_is_missing() -> None:
    found = host(Verdict.LIVE, "web")
    assert found.report is not None
    waits = tuple(vm.model_copy(update={"awaits_heir": True}) for vm in found.report.vms)
    found = found.model_copy(update={"report": found.report.model_copy(update={"vms": waits})})
    assert missing([record()], [found]) == [record()]


def test_a_stale_report_counts_for_nothing() -> None:
    stale = host(Verdict.LIVE, "web", is_report_stale=True)
    assert missing([record()], [stale]) == [record()]
    assert missing([record()], [stale, host(Verdict.LIVE, "web")]) == []


@pytest.mark.parametrize(
    ("verdict", "heartbeat_age_s", "beat_ages_s", "is_silent_s"),
    [
        (Verdict.FAILED, 17.0, {"nfs1": 15.5, "nfs2": 1.0}, 15.5),
        (Verdict.FAILED, 15.2, {"nfs1": 15.5}, 15.2),
        (Verdict.FAILED, None, {"nfs1": 15.5}, 15.5),
        (Verdict.FAILED, None, {}, 0.0),
        (Verdict.LIVE, 0.4, {"nfs1": 0.7}, 0.0),
    ],
)
def test_a_vm_is_down_since_the_last_sign_of_life_of_its_host(
    verdict: Verdict, heartbeat_age_s: float | None, beat_ages_s: dict[str, float], is_silent_s: float
) -> None:
    seen = host(verdict, heartbeat_age_s=heartbeat_age_s, beat_ages_s=beat_ages_s)
    assert silent_s(record(), [seen]) == is_silent_s
    assert silent_s(record(), []) == 0.0


def test_what_a_host_that_is_dead_on_their_datastore_ran_is_missing_too() -> None:
    cut_off = host(Verdict.ISOLATED, "web", heartbeat_age_s=17.0, beat_ages_s={"nfs1": 15.5, "nfs2": 0.5})
    dead = cut_off.model_copy(update={"dead_on": ("nfs1",)})
    (told,) = dead.report.vms if dead.report is not None else ()
    unrecorded = record().model_copy(update={"wanted": "stopped", "epoch": told.epoch - 1})
    assert missing([unrecorded], [cut_off]) == []
    assert missing([unrecorded], [dead]) == [unrecorded]
    assert missing([unrecorded.model_copy(update={"datastore": "nfs2"})], [dead]) == []
    assert (silent_s(record(), [cut_off]), silent_s(record(), [dead])) == (0.0, 15.5)


def test_the_addresses_of_a_vm_are_those_of_its_last_run() -> None:
    reports = [
        VmReport(name=name, state=VmState.RUNNING, epoch=epoch, memory_bytes=1, cpus=1, addresses=(address,))
        for name, epoch, address in (("web", 3, "192.0.2.3"), ("web", 5, "192.0.2.5"), ("db", 9, "192.0.2.9"))
    ]
    seen = [status(f"h{number}", number, vms=(report,)) for number, report in enumerate(reports, 1)]
    assert last_addresses("web", seen) == ("192.0.2.5",)
    assert last_addresses("mail", seen) == ()
