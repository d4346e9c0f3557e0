from dataclasses import replace

import pytest

from zugvogel.core.explaining import HaSettings, HostCase, explain_host, explain_vm, unprotected
from zugvogel.core.verdicts import BeatEvidence, HostEvidence
from zugvogel.domain.ha import IsolationResponse, RestartPriority, VmPolicy
from zugvogel.domain.host import Host, HostStatus, Role, Verdict
from zugvogel.domain.lease import Holder, Lease, LeaseState
from zugvogel.domain.vm import VmDefinition, VmRecord

ENABLED = HaSettings(is_enabled=True, response=IsolationResponse.SUSPEND)


def host(name: str = "h2") -> Host:
    return Host(name=name, address="192.0.2.2", role=Role.PRIMARY, ordinal=2, joined_at="")


def case(verdict: Verdict, evidence: HostEvidence | None) -> HostCase:
    return HostCase(host(), "h1", verdict, "because", evidence, {"ds": 0.5, "late": None})


def evidence(*beats: BeatEvidence, silence_s: float = 20.0, heard_by: tuple[str, ...] = ()) -> HostEvidence:
    return HostEvidence(silence_s, True, 15.0, beats, heard_by)


LINES = {
    "heartbeat: last heard 20.0 s ago": evidence(),
    "heartbeat: not heard since the judge began to listen, 3.0 s ago": HostEvidence(3.0, False, 15.0),
    "beat: there is no datastore to beat on": evidence(),
    "beat on a: stood still for 4.5 s while the judge could read": evidence(BeatEvidence("a", 4.5)),
    "beat on a: never seen by the judge": evidence(BeatEvidence("a", None)),
    "beat on a: the judge cannot read it now, so it proves nothing": evidence(
        BeatEvidence("a", 4.5, is_readable=False)
    ),
    "beat on a: older than what its heartbeat told, so the two see different file systems and it proves nothing": (
        evidence(BeatEvidence("a", 4.5, is_same_place=False))
    ),
    "heard by: h3, h4": evidence(heard_by=("h3", "h4")),
    "heard by: no host says that it hears it": evidence(),
    "heard by: not asked while the judge itself has heard it lately": evidence(silence_s=1.0),
    "says that it is isolated: yes, on a": evidence(BeatEvidence("a", 1.0, is_isolated=True)),
    "says that it is isolated: no": evidence(BeatEvidence("a", 1.0)),
    "says that a guard freezes its vms should its beats end: yes, on b": evidence(
        BeatEvidence("a", 1.0), BeatEvidence("b", 1.0, is_guarded=True)
    ),
    "says that a guard freezes its vms should its beats end: no": evidence(BeatEvidence("a", 1.0)),
    "detection time: 15 s (the greatest of the judge's and those in its beats); frozen at 9 s without a beat": (
        evidence()
    ),
    "high availability is enabled": evidence(),
    "own beat on ds: 0.5 s ago": None,
    "own beat on late: it has not written a beat yet": None,
}


@pytest.mark.parametrize("line", LINES)
def test_each_piece_of_evidence_has_a_line(line: str) -> None:
    told = explain_host(case(Verdict.LIVE, LINES[line]), ENABLED)
    assert line in told.evidence
    assert (told.subject, told.kind, told.judge, told.judgement) == ("h2", "host", "h1", "h2 is live: because")


FOLLOWS = {
    Verdict.LIVE: "nothing",
    Verdict.MAINTENANCE: "no vm is placed",
    Verdict.PARTITIONED: "nothing is restarted",
    Verdict.ISOLATED: "isolation response",
    Verdict.STORAGE_LOST: "after 140 s they are given up",
    Verdict.FAILED: "restarted on other hosts, by priority",
}


@pytest.mark.parametrize("verdict", Verdict)
def test_what_follows_from_each_verdict(verdict: Verdict) -> None:
    assert FOLLOWS[verdict] in explain_host(case(verdict, evidence()), ENABLED).follows


@pytest.mark.parametrize("verdict", Verdict)
def test_nothing_is_promised_while_high_availability_is_disabled(verdict: Verdict) -> None:
    told = explain_host(case(verdict, evidence()), HaSettings()).follows
    assert "given up and restarted" not in told
    assert "restarted on other hosts" not in told
    assert "gets its isolation response" not in told


def test_frozen_vms_are_not_given_up_where_that_is_set() -> None:
    settings = HaSettings(is_enabled=True, apd_timeout_s=0)
    assert "given up" not in explain_host(case(Verdict.STORAGE_LOST, evidence()), settings).follows


KEPT = HaSettings(is_enabled=True, kept_on={"a": "its locks stay"})


def test_what_is_never_given_up_is_not_promised() -> None:
    def follows(*lost: str) -> str:
        return explain_host(replace(case(Verdict.STORAGE_LOST, evidence()), frozen_on=lost), KEPT).follows

    assert "after 140 s" not in follows("a")
    assert "those on a are never given up: its locks stay" in follows("a")
    assert "after 140 s they are given up and restarted elsewhere, if another host has room" in follows("b")
    assert "never" not in follows("b")
    assert "after 140 s they" in follows("a", "b")
    assert "those on a are never" in follows("a", "b")


@pytest.mark.parametrize("verdict", [Verdict.ISOLATED, Verdict.PARTITIONED])
def test_of_a_host_that_is_cut_off_what_it_lost_is_restarted(verdict: Verdict) -> None:
    there = replace(case(verdict, evidence()), frozen_on=("a",), dead_on=("a",))
    assert "those on a, which it has lost too, are restarted elsewhere" in explain_host(there, ENABLED).follows
    assert "restarted elsewhere" not in explain_host(there, HaSettings()).follows
    assert "restarted elsewhere" not in explain_host(replace(there, dead_on=()), ENABLED).follows


# vms ---------------------------------------------------------------------------------------------------


def record(wanted: str = "running", **policy: object) -> VmRecord:
    definition = VmDefinition(
        name="web", uuid="u", memory_bytes=2**30, cpus=1, machine="pc-q35-7.2", cpu_model="host",
        ha=VmPolicy.model_validate(policy),
    )  # fmt: skip
    return VmRecord.model_validate({"definition": definition, "datastore": "ds", "wanted": wanted})


def lease(state: LeaseState = LeaseState.RUNNING, **more: object) -> Lease:
    holder = Holder(host="h1", boot_id="b") if state in {LeaseState.RUNNING, LeaseState.RESUMING} else None
    return Lease.model_validate({"vm": "web", "epoch": 7, "state": state, "holder": holder, **more})


def hosts(**verdicts: Verdict) -> dict[str, HostStatus]:
    return {n: HostStatus(host=host(n), verdict=v, why="seen") for n, v in verdicts.items()}


RUNS = hosts(h1=Verdict.LIVE, h2=Verdict.LIVE)
VMS = {
    "runs": (
        record(), lease(), RUNS, "web runs on h1, epoch 7",
        "if h1 fails: restarted with priority medium; what was not saved is lost; if it becomes isolated: memory "
        "saved to the datastore, then resumed elsewhere with it; powered off if it cannot be saved",
    ),
    "own response": (
        record(isolation_response="leave", restart_priority="high"), lease(), RUNS, "web runs on h1, epoch 7",
        "if h1 fails: restarted with priority high; what was not saved is lost; if it becomes isolated: left",
    ),
    "being migrated": (
        record(), lease(heir="h2"), RUNS, "web runs on h1, epoch 7, and is being migrated to h2", "if h1 fails: ",
    ),
    "priority disabled": (
        record(restart_priority="disabled"), lease(), RUNS, "web runs on h1, epoch 7",
        "if h1 fails: it stays down, since its restart priority is disabled; if it becomes isolated: left running",
    ),
    "host failed": (
        record(), lease(), hosts(h1=Verdict.FAILED), "web runs on h1, epoch 7",
        "h1 has failed: restarted with priority medium",
    ),
    "both sides failed": (
        record(), lease(heir="h2"), hosts(h1=Verdict.FAILED, h2=Verdict.FAILED), "web runs on h1", "h1 has failed",
    ),
    "one side failed": (
        record(), lease(heir="h2"), hosts(h1=Verdict.FAILED, h2=Verdict.LIVE), "web runs on h1", "if h1 fails",
    ),
    "host isolated": (
        record(isolation_response="poweroff"), lease(), hosts(h1=Verdict.ISOLATED), "web runs on h1, epoch 7",
        "its host is isolated: powered off, then restarted elsewhere",
    ),
    "failed by itself": (
        record(), lease(LeaseState.RELEASED, is_failure=True), RUNS, "web is down after a failure, epoch 7",
        "it is restarted on a host that fits",
    ),
    "stopped": (
        record("stopped"), lease(LeaseState.RELEASED), RUNS, "web is stopped, epoch 7",
        "it stays down: it is not wanted to run",
    ),
    "never ran": (record("stopped"), None, RUNS, "web has never run: it has no lease", "it stays down: "),
    "suspended": (
        record(), lease(LeaseState.SUSPENDED, memory_id="m"), RUNS,
        "web is suspended with its memory saved, epoch 7",
        "it stays suspended until it is resumed: zv vm resume web",
    ),
    "saved to be resumed": (
        record(), lease(LeaseState.SUSPENDED, memory_id="m", is_to_resume=True), RUNS, "web is suspended",
        "it is resumed on another host with its memory",
    ),
    "resuming": (
        record(), lease(LeaseState.RESUMING, memory_id="m"), RUNS,
        "web is being resumed by h1 with its memory, epoch 7", "if h1 fails: another host resumes it",
    ),
    "holder unknown": (record(), lease(), {}, "web runs on h1, epoch 7", "if h1 fails: restarted"),
}  # fmt: skip


@pytest.mark.parametrize("name", VMS)
def test_a_vm_its_lease_and_what_follows(name: str) -> None:
    given, its_lease, judged, judgement, follows = VMS[name]
    told = explain_vm(given, its_lease, judged, ENABLED, judge="h5")
    assert told.judgement.startswith(judgement)
    assert told.follows.startswith(follows)
    assert (told.subject, told.kind, told.judge) == ("web", "vm", "h5")


def frozen(verdict: Verdict, *dead_on: str) -> dict[str, HostStatus]:
    seen = hosts(h1=verdict)["h1"]
    return {"h1": seen.model_copy(update={"frozen_on": ("ds",), "dead_on": dead_on})}


def test_a_frozen_vm_is_not_said_to_run() -> None:
    def told(judged: dict[str, HostStatus], settings: HaSettings = ENABLED, **disk: str) -> tuple[str, str]:
        disks = [{"file": "d.raw", "format": "raw", "size_bytes": 1} | disk]
        given = record()
        definition = VmDefinition.model_validate(given.definition.model_dump() | {"disks": disks})
        given = given.model_copy(update={"definition": definition})
        found = explain_vm(given, lease(), judged, settings, judge="h5")
        return found.judgement, found.follows

    lost = frozen(Verdict.STORAGE_LOST)
    stands = "web stands still on h1, epoch 7: h1 does not reach its datastore and froze it"
    judgement, follows = told(lost)
    assert judgement == stands
    goes_on = "it goes on when h1 reaches ds again and its lease is still that host's; "
    assert follows.startswith(f"{goes_on}after 140 s it is given up and restarted elsewhere")
    assert told(lost, replace(ENABLED, kept_on={"ds": "x"}))[1].endswith("it is not given up, since x")
    assert "writes of its disk d.raw may be left" in told(lost, cache="writeback")[1]
    assert "das.apdtimeout is 0" in told(lost, replace(ENABLED, apd_timeout_s=0))[1]
    assert told(lost, HaSettings())[0] == "web runs on h1, epoch 7"  # no guard freezes it
    assert told(frozen(Verdict.ISOLATED))[0] == stands
    assert "once nobody has heard h1" in told(frozen(Verdict.ISOLATED))[1]
    assert told(frozen(Verdict.ISOLATED, "ds"))[1].startswith("h1 is isolated and dead on ds: restarted")
    assert told(frozen(Verdict.FAILED, "ds"))[1].startswith("h1 has failed: restarted")


def test_the_evidence_of_a_vm() -> None:
    given = record(anti_affinity="web", preferred_hosts=("h3",))
    told = explain_vm(given, lease(heir="h9", why="started"), RUNS, ENABLED, judge="h1").evidence
    assert told == (
        "lease on ds: epoch 7, running (started)",
        "holder h1: live; seen",
        "heir h9: no host of the cluster",
        "wanted: running",
        "restart priority: medium",
        "isolation response: suspend (das.isolationresponse)",
        "high availability is enabled",
        "kept apart from others of the group web",
        "preferred hosts: h3",
    )


def test_what_its_host_knows_of_its_guest_is_evidence() -> None:
    told = explain_vm(record(), lease(), RUNS, ENABLED, judge="h1", answer="its guest answers").evidence
    assert told[1:3] == ("holder h1: live; seen", "its guest answers")
    assert "" not in explain_vm(record(), lease(), RUNS, ENABLED, judge="h1").evidence


@pytest.mark.parametrize("name", VMS)
def test_no_vm_is_promised_a_restart_while_high_availability_is_disabled(name: str) -> None:
    given, its_lease, judged, _, _ = VMS[name]
    follows = explain_vm(given, its_lease, judged, HaSettings(), judge="h1").follows
    assert "restarted" not in follows
    assert "resumed on another host" not in follows


def test_who_is_protected() -> None:
    assert unprotected(record(), ENABLED) == ""
    assert unprotected(record(), HaSettings()) == "high availability is disabled"
    assert unprotected(record("stopped"), ENABLED) == "it is not wanted to run"
    disabled = record(restart_priority=RestartPriority.DISABLED)
    assert unprotected(disabled, ENABLED) == "its restart priority is disabled"
