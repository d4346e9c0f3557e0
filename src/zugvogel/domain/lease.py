"""The vm lease: who may run a vm. The mechanism is in the architecture, "The VM folder and the VM lease"."""

from __future__ import annotations

from enum import StrEnum

from zugvogel.domain.base import HostName, Model, Name

KEPT_EPOCHS = 64


class LeaseState(StrEnum):
    RUNNING = "running"
    SUSPENDED = "suspended"
    RESUMING = "resuming"
    RELEASED = "released"


class Holder(Model):
    """`boot_id` is made by the agent's host at boot (kernel boot id + agent state id)."""

    host: HostName
    boot_id: str


class Lease(Model):
    """Contents of ``lease.<epoch>``. Written once, complete, by link(2); never changed.

    The highest epoch is the truth. `heir` is set only while a live migration runs: the host that may
    claim `epoch + 1` once it has been given the word. `migration_id` names that migration, also in the
    claim by which the heir became the holder. `memory_id` names the saved memory of a vm that is suspended
    (nobody holds it) or being resumed (`holder` loads it; no vCPU runs before it links `running`, so anybody
    may take the loading over by linking the next epoch). `is_to_resume`: its memory was saved to go on at once
    elsewhere (quick migration, isolation response), not because a user suspended it; kept while it is resumed,
    and in the claim by which it runs then.
    `is_failure`: released because its QEMU ended unasked, or for it to be started elsewhere; `is_own_failure`: it
    ended by itself, under an agent that saw it.
    `why` tells people the cause of this claim. `written_at` is for people only; no decision reads it.
    """

    vm: Name
    epoch: int
    state: LeaseState
    holder: Holder | None
    heir: HostName | None = None
    migration_id: str = ""
    memory_id: str = ""
    is_failure: bool = False
    is_own_failure: bool = False
    is_to_resume: bool = False
    why: str = ""
    written_at: str = ""
