"""Who may claim which lease next: from the lease that was read to the lease to link, or `Refused`.

Every function returns `epoch = judged + 1` (1 where there was no lease), so the one link(2) of that file
decides between all who judged the same lease. Nothing here grants anything: only a claim that was linked does.

A lease with an heir has two hosts that may run the vm; only the rules named for it (`drop_heir`,
`go_on`, `take_over_by_heir`, `release` with `is_heir_excluded`, `release_confirmed_dead`) go on from there.
"""

from __future__ import annotations

from collections.abc import Set

from zugvogel.domain.base import HostName
from zugvogel.domain.lease import Holder, Lease, LeaseState
from zugvogel.errors import Refused


def holds(lease: Lease | None, me: Holder) -> bool:
    """The lease says that this boot of this host runs the vm."""
    if lease is None or lease.state is not LeaseState.RUNNING:
        return False
    holder = lease.holder
    return holder is not None and holder.host == me.host and holder.boot_id == me.boot_id


def start(
    lease: Lease | None,
    vm: str,
    me: Holder,
    *,
    has_qemu: bool,
    judged_epoch: int | None = None,
    why: str,
    at: str = "",
) -> Lease:
    """The claim that starts `vm` here: from no lease, a released one, or one of this host's own (also of an
    earlier boot) that has no QEMU. `has_qemu`: a QEMU process of the vm exists on this host. `judged_epoch`: an
    order was judged from it, and is good for nothing else."""
    if judged_epoch is not None:
        refuse_gone_on(lease, vm, judged_epoch)
    if has_qemu:
        raise Refused(f"{vm} still has a QEMU process on {me.host}", f"see `zv vm show {vm}`")
    if lease is None:
        return Lease(vm=vm, epoch=1, state=LeaseState.RUNNING, holder=me, why=why, written_at=at)
    if lease.state in {LeaseState.SUSPENDED, LeaseState.RESUMING}:
        raise Refused(
            f"{vm} is {lease.state} with its memory saved",
            f"go on with it: zv vm resume {vm}; or throw its memory away: zv vm discard {vm}",
        )
    if lease.state is LeaseState.RUNNING:
        _refuse_heir(lease)
        if lease.holder is not None and lease.holder.host != me.host:
            raise Refused(
                f"{vm} is held by {lease.holder.host} (epoch {lease.epoch})", "stop it there or migrate it"
            )
    return _next(lease, LeaseState.RUNNING, me, why, at)


def refuse_gone_on(lease: Lease | None, vm: str, judged_epoch: int) -> None:
    """Refused unless the lease is the one that an order was judged from."""
    epoch = lease.epoch if lease is not None else 0
    if epoch != judged_epoch:
        raise Refused(
            f"the lease of {vm} is at epoch {epoch}, the order was for epoch {judged_epoch}",
            "it was started or stopped meanwhile; nothing is to be done",
        )


def release(
    lease: Lease | None,
    vm: str,
    me: Holder,
    *,
    is_heir_excluded: bool = False,
    is_failure: bool = False,
    is_own_failure: bool = False,
    why: str,
    at: str = "",
) -> Lease:
    """The claim that gives the vm free, by its holder (any boot of it) after its QEMU has ended.
    `is_heir_excluded`: the heir is proven never to run it (it refused the word, or died before).
    `is_failure`: nobody asked for the end; `is_own_failure`: this host saw it end by itself."""
    held = _held_by_host(lease, vm, me.host)
    if not is_heir_excluded:
        _refuse_heir(held)
    update = {"is_failure": is_failure, "is_own_failure": is_failure and is_own_failure}
    return _next(held, LeaseState.RELEASED, None, why, at).model_copy(update=update)


def name_heir(
    lease: Lease | None, vm: str, me: Holder, heir: HostName, migration_id: str, *, why: str, at: str = ""
) -> Lease:
    """Before switchover: `holder me, heir`. After it is linked the heir may claim once it got the word."""
    held = _held_by_boot(lease, vm, me)
    _refuse_heir(held)
    if heir == me.host:
        raise Refused(f"{vm} already runs on {heir}", "choose another host")
    claim = _next(held, LeaseState.RUNNING, me, why, at)
    return claim.model_copy(update={"heir": heir, "migration_id": migration_id})


def drop_heir(lease: Lease | None, vm: str, me: Holder, migration_id: str, *, why: str, at: str = "") -> Lease:
    """The holder goes on alone; only once the heir is proven never to have been given the word, or to
    have refused it. Also from a lease without an heir: that decides against a claim that may still be on
    its way to a slow datastore."""
    held = _held_by_boot(lease, vm, me)
    if held.heir:
        _require_migration(held, migration_id)
    return _next(held, LeaseState.RUNNING, me, why, at)


def take_over_by_heir(
    lease: Lease | None, vm: str, me: Holder, migration_id: str, *, why: str, at: str = ""
) -> Lease:
    """The heir makes itself the holder, after it got the word and its vCPUs run. The claim keeps the id of the
    migration it came by."""
    claim = _next(_inherited(lease, vm, me, migration_id), LeaseState.RUNNING, me, why, at)
    return claim.model_copy(update={"migration_id": migration_id})


def release_confirmed_dead(
    lease: Lease | None, vm: str, host: HostName, dead: Set[HostName], *, why: str, at: str = ""
) -> Lease | None:
    """Another host gives the vm free because somebody vouches that `host` runs nothing any more. `dead`: `host`,
    those judged failed, and a side of a migration that lives and has made sure that it never runs the vm. None:
    `host` has no part in the vm. Refused: the other side of a migration may run it, and settles it."""
    if lease is None or lease.state is not LeaseState.RUNNING or lease.holder is None:
        return None
    sides = {lease.holder.host} | ({lease.heir} if lease.heir else set())
    if host not in sides:
        return None
    if others := sides - dead:
        other = others.pop()
        raise Refused(
            f"{vm} was being migrated between {host} and {other}, and {other} may run it",
            f"the agent of {other} settles it; see `zv vm show {vm}`",
        )
    return _next(lease, LeaseState.RELEASED, None, why, at).model_copy(update={"is_failure": True})


def suspend(
    lease: Lease | None,
    vm: str,
    me: Holder,
    memory_id: str,
    *,
    is_to_resume: bool = False,
    why: str,
    at: str = "",
) -> Lease:
    """The holder gives the vm up with its memory saved, complete and durable. From here on it never goes on by
    itself: whoever resumes it links the next epoch. `is_to_resume`: it is to go on elsewhere at once."""
    held = _held_by_boot(lease, vm, me)
    _refuse_heir(held)
    claim = _next(held, LeaseState.SUSPENDED, None, why, at)
    update = {"memory_id": memory_id, "migration_id": memory_id, "is_to_resume": is_to_resume}
    return claim.model_copy(update=update)


def keep_running(lease: Lease | None, vm: str, me: Holder, *, why: str, at: str = "") -> Lease:
    """The holder goes on after a suspend that was not finished: linking the next epoch decides against its own
    claim that may still be on its way to a slow datastore."""
    held = _held_by_boot(lease, vm, me)
    _refuse_heir(held)
    return _next(held, LeaseState.RUNNING, me, why, at)


def go_on(lease: Lease | None, vm: str, me: Holder, *, why: str, at: str = "") -> Lease:
    """The holder goes on after its vm was frozen, because others may have been about to take it over: of this link
    and theirs on the same epoch one wins. A migration that is under way stays: same heir, same id; its heir claims
    from the new epoch as it would have from the old one."""
    held = _held_by_boot(lease, vm, me)
    claim = _next(held, LeaseState.RUNNING, me, why, at)
    return claim.model_copy(update={"heir": held.heir, "migration_id": held.migration_id if held.heir else ""})


def begin_resume(
    lease: Lease | None, vm: str, me: Holder, *, is_takeover: bool = False, why: str, at: str = ""
) -> Lease:
    """Before the saved memory is loaded here. `is_takeover`: also from another host that is loading it; that
    needs no proof that it is dead, since its next claim fails and it runs nothing before."""
    if lease is None or not lease.memory_id:
        raise Refused(f"{vm} is not suspended", f"see: zv vm show {vm}")
    loads_elsewhere = lease.state is LeaseState.RESUMING and lease.holder is not None and lease.holder != me
    if lease.state not in {LeaseState.SUSPENDED, LeaseState.RESUMING} or (loads_elsewhere and not is_takeover):
        where = f" by {lease.holder.host}" if lease.holder else ""
        raise Refused(f"{vm} is {lease.state}{where} (epoch {lease.epoch})", f"see: zv vm show {vm}")
    return _with_memory(_next(lease, LeaseState.RESUMING, me, why, at), lease)


def run_resumed(lease: Lease | None, vm: str, me: Holder, memory_id: str, *, why: str, at: str = "") -> Lease:
    """All memory is loaded: linked before the first `cont`. The saved memory is past from here on; the claim keeps
    its id as that of the move it came by."""
    loading = _resuming_here(lease, vm, me, memory_id)
    claim = _next(loading, LeaseState.RUNNING, me, why, at)
    return claim.model_copy(update={"migration_id": memory_id, "is_to_resume": loading.is_to_resume})


def suspend_again(
    lease: Lease | None, vm: str, me: Holder, memory_id: str, *, is_to_resume: bool, why: str, at: str = ""
) -> Lease:
    """After `run_resumed`, when QEMU itself refused every `cont` and has ended: no vCPU ran and no disk was
    written, so the memory is still what it was, and stays saved for whoever resumes it next."""
    return suspend(lease, vm, me, memory_id, is_to_resume=is_to_resume, why=why, at=at)


def give_back(lease: Lease | None, vm: str, me: Holder, *, why: str, at: str = "") -> Lease:
    """The memory was not loaded here (by any boot of this host): it stays saved for whoever resumes it next."""
    if lease is None or lease.state is not LeaseState.RESUMING or lease.holder is None:
        raise Refused(f"{vm} is not being resumed", f"see: zv vm show {vm}")
    if lease.holder.host != me.host:
        raise Refused(f"{vm} is being resumed by {lease.holder.host}, not by {me.host}", "ask that host")
    return _with_memory(_next(lease, LeaseState.SUSPENDED, None, why, at), lease)


def discard(lease: Lease | None, vm: str, *, why: str, at: str = "") -> Lease:
    """The saved memory is thrown away: the vm boots fresh next."""
    if lease is None or lease.state is not LeaseState.SUSPENDED:
        state = lease.state if lease is not None else "stopped"
        raise Refused(f"{vm} is {state}, not suspended", f"see: zv vm show {vm}")
    return _next(lease, LeaseState.RELEASED, None, why, at)


def _with_memory(claim: Lease, before: Lease) -> Lease:
    kept = {"memory_id": before.memory_id, "migration_id": before.memory_id, "is_to_resume": before.is_to_resume}
    return claim.model_copy(update=kept)


def _resuming_here(lease: Lease | None, vm: str, me: Holder, memory_id: str) -> Lease:
    is_mine = lease is not None and lease.state is LeaseState.RESUMING and lease.holder == me
    if lease is None or not is_mine or lease.memory_id != memory_id:
        raise Refused(f"{vm} is not being resumed by {me.host} any more", "its lease has gone on; read it again")
    return lease


def _next(lease: Lease, state: LeaseState, holder: Holder | None, why: str, at: str) -> Lease:
    return Lease(vm=lease.vm, epoch=lease.epoch + 1, state=state, holder=holder, why=why, written_at=at)


def _held_by_host(lease: Lease | None, vm: str, host: HostName) -> Lease:
    if lease is None or lease.state is not LeaseState.RUNNING or lease.holder is None:
        raise Refused(f"nobody holds {vm}", f"see `zv vm show {vm}`")
    if lease.holder.host != host:
        raise Refused(f"{vm} is held by {lease.holder.host}, not by {host}", "ask that host")
    return lease


def _held_by_boot(lease: Lease | None, vm: str, me: Holder) -> Lease:
    held = _held_by_host(lease, vm, me.host)
    if held.holder != me:
        raise Refused(f"{vm} is held by an earlier boot of {me.host}", "let the agent settle it first")
    return held


def _inherited(lease: Lease | None, vm: str, me: Holder, migration_id: str) -> Lease:
    if lease is None or lease.heir != me.host or lease.state is not LeaseState.RUNNING:
        raise Refused(f"{me.host} is not the heir of {vm}", "its lease has gone on; read it again")
    _require_migration(lease, migration_id)
    return lease


def _require_migration(lease: Lease, migration_id: str) -> None:
    if not lease.heir or lease.migration_id != migration_id:
        raise Refused(
            f"the lease of {lease.vm} does not belong to migration {migration_id}",
            "its lease has gone on; read it again",
        )


def _refuse_heir(lease: Lease) -> None:
    if lease.heir:
        raise Refused(f"{lease.vm} is being migrated to {lease.heir}", "wait until the migration is settled")
