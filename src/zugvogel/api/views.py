"""Answers that are made of more than the domain knows; the others make themselves (`zugvogel.domain.answers`)."""

from __future__ import annotations

from zugvogel.core.death_proof import proof_of
from zugvogel.domain.answers import BaselineView, DatastoreView, SettingView
from zugvogel.domain.settings import allowed
from zugvogel.ports.backend import BaselineStatus, DatastoreStatus, SettingValue


def datastore_view(status: DatastoreStatus) -> DatastoreView:
    store, usable = status.datastore, [r for r in status.by_host.values() if r.is_usable]
    proof = proof_of(store)
    return DatastoreView(
        name=store.name,
        path=store.path,
        kind=store.kind,
        id=store.id,
        is_shared=store.is_shared,
        added_at=store.added_at,
        proof=proof.proof,
        proof_why=proof.why,
        is_proof_chosen=proof.is_chosen,
        is_usable=bool(usable),
        free_bytes=min((r.free_bytes for r in usable), default=0),
        total_bytes=max((r.total_bytes for r in usable), default=0),
        hosts=status.by_host,
    )


def baseline_view(status: BaselineStatus) -> BaselineView:
    missing = {m: {h: list(flags) for h, flags in hosts.items()} for m, hosts in status.missing.items()}
    return BaselineView(
        current=status.current,
        is_set=status.is_set,
        best=status.best,
        missing=missing,
        vendors=status.vendors,
    )


def setting_view(held: SettingValue) -> SettingView:
    s = held.setting
    return SettingView(
        name=s.name,
        value=held.value,
        default=s.default,
        unit=s.unit,
        reason=s.reason,
        minimum=s.minimum,
        maximum=s.maximum,
        choices=list(s.choices),
        allowed=allowed(s),
    )
