"""What a plan needs beside room: that high availability is on, and what proves a failed host's vms to be over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field

from zugvogel.core.death_proof import has_lock, proof_of
from zugvogel.domain.datastore import Datastore
from zugvogel.domain.ha import FailoverPlan, Placed, Proof
from zugvogel.domain.vm import VmDefinition, VmRecord

OFF = "high availability is disabled: nothing is restarted (zv ha enable)"


@dataclass(frozen=True, slots=True)
class RestartTerms:
    """`fenced`: hosts whose power a device can cut. Guards are taken for present: without one a host writes no
    beats while high availability is enabled, and is not live."""

    is_enabled: bool = True
    datastores: Mapping[str, Datastore] = field(default_factory=dict)
    fenced: Set[str] = frozenset()

    def of(self, definition: VmDefinition, datastore: str, host: str) -> tuple[str, str]:
        """(what is waited for, what goes before) its restart when `host` fails, each in a sentence. The first is
        empty where it comes by itself, the second where the verdict does."""
        if not self.is_enabled:
            return OFF, ""
        store = self.datastores.get(datastore)
        if store is None:
            return f"its datastore {datastore} does not exist any more", ""
        proof = proof_of(store)
        if proof.needs_word_of(True):
            if host in self.fenced:
                return "", f"when its fence device has cut the power of {host}"
            needs = f"{store.name} ({store.kind}) needs one or a person's word"
            cause = f"no fence device is set for {host}, and {needs}: {proof.why}"
            return f"{cause}; it waits for: zv host confirm-dead {host}", ""
        if proof.proof is Proof.LOCK and has_lock(definition):
            return "", f"when its image locks on {store.name} are gone"
        return "", ""


def under(plan: FailoverPlan, records: Mapping[str, VmRecord], terms: RestartTerms) -> FailoverPlan:
    """`plan`, which only knows of room, with what else each restart hangs on."""
    placed = tuple(_under(p, records[p.vm], terms) for p in plan.placed)
    return plan.model_copy(
        update={"placed": placed, "is_complete": plan.is_complete and not waiting(placed)},
    )


def waiting(placed: Sequence[Placed]) -> list[Placed]:
    """Those that have a place and would not be restarted by themselves."""
    return [p for p in placed if p.waits_for]


def _under(placed: Placed, record: VmRecord, terms: RestartTerms) -> Placed:
    if placed.host is None:
        return placed
    waits, before = terms.of(record.definition, record.datastore, placed.source)
    why = "; ".join(part for part in (waits or placed.why, before) if part)
    return placed.model_copy(update={"why": why, "waits_for": waits})
