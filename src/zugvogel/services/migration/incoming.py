"""The target's side of a live migration: rebuild the vm, wait for its memory, run it on the source's word.

Nothing here runs a vCPU without the word (RPC ``migration.word``, or the note ``word.<id>`` in the vm's
folder), and nothing is written to the datastore between the word and the vm running.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from zugvogel.core.checks import MEMORY_OVERHEAD_BYTES
from zugvogel.domain.migration import IncomingReady, IncomingRequest, IncomingStatus, TargetPhase
from zugvogel.domain.task import Severity
from zugvogel.domain.vm import VmDefinition, VmState
from zugvogel.errors import NotFound, ProcedureFailed, Refused, Unreachable, ZugvogelError
from zugvogel.ports.clock import Clock
from zugvogel.ports.hypervisor import Hypervisor, Machine, MachineSpec, MachineStatus
from zugvogel.services.inventory import Observation
from zugvogel.services.letting_go import may_go
from zugvogel.services.local_vms import Guest, LocalVms
from zugvogel.services.looks import Looks
from zugvogel.services.migration.heir_claim import AGAIN_S, HeirClaim
from zugvogel.services.migration.incoming_session import Session
from zugvogel.services.migration.records import MigrationRecords

log = logging.getLogger(__name__)

ADOPTED_SILENCE_S = 5.0
"""`SILENCE_S` for a session that an earlier agent had prepared: its source has asked before."""
START_WAIT_S = 5.0
NOT_RUN = {MachineStatus.INMIGRATE, MachineStatus.PRELAUNCH, MachineStatus.PAUSED}
"""States of a QEMU that was started to take a vm in and was never told to run it."""
REMEMBERED = 256
PORTS = 64

Failpoint = Callable[[str], Any]


class IncomingMigrations:
    """RPC commands ``migration.prepare``, ``.status``, ``.word``, ``.abort`` of the target."""

    def __init__(
        self,
        *,
        vms: LocalVms,
        hypervisor: Hypervisor,
        clock: Clock,
        records: MigrationRecords,
        address: str,
        first_port: int,
        failpoint: Failpoint,
        tell_now: Callable[[], Awaitable[None]],
    ) -> None:
        self._vms = vms
        self._hypervisor = hypervisor
        self._clock = clock
        self._records = records
        self._address = address
        self._first_port = first_port
        self._failpoint = failpoint
        self._tell_now = tell_now
        self.sessions: dict[str, Session] = {}
        self.is_ready = asyncio.Event()
        """Set once the QEMUs of an earlier agent are sessions again: before that nobody is told "unknown"."""
        self._background: set[asyncio.Task[Any]] = set()
        self.looks = Looks("incoming vms")

    def handlers(self) -> dict[str, Any]:
        return {
            "migration.prepare": self._on_prepare,
            "migration.status": self._on_status,
            "migration.word": self._on_word,
            "migration.abort": self._on_abort,
        }

    def reserved(self, but: str = "") -> tuple[int, int]:
        """(bytes, cpus) promised to vms that are on their way here, to all `but` this one."""
        if not self.sessions:
            return 0, 0
        is_open = {TargetPhase.PREPARED, TargetPhase.RUNNING}
        waiting = [s for s in self.sessions.values() if s.phase in is_open and s.vm != but]
        memory = sum(s.definition.memory_bytes + MEMORY_OVERHEAD_BYTES for s in waiting)
        return memory, sum(s.definition.cpus for s in waiting)

    # prepare ---------------------------------------------------------------------------------

    async def _on_prepare(self, payload: dict[str, Any]) -> dict[str, Any]:
        request = IncomingRequest.model_validate(payload)
        await self._until_ready()
        return (await self.prepare(request)).model_dump(mode="json")

    async def prepare(self, request: IncomingRequest) -> IncomingReady:
        """Reserve, spawn, listen. On failure nothing is left of it."""
        name = request.vm.name
        await self._vms.room_known()
        if self._vms.is_in_care(name):
            raise Refused(f"{self._vms.host} still has something of {name}", f"see: zv vm show {name}")
        for other in self.sessions.values():
            if other.vm == name and other.phase is TargetPhase.PREPARED:
                raise Refused(f"{name} is on its way to {self._vms.host} already", "see: zv task list")
        self._vms.reserve(request.vm)
        session = Session(
            id=request.migration_id,
            vm=name,
            definition=request.vm,
            datastore=request.datastore,
            source=request.source,
            phase=TargetPhase.PREPARED,
            heard_at=self._clock.monotonic(),
            since=self._clock.monotonic(),
        )
        self._remember(session)
        began = self._clock.monotonic()
        async with session.lock:  # an abort waits until there is something whole to abort
            try:
                await self._failpoint("target.prepare")
                capabilities = await self._build(session, request)
            except BaseException as error:
                await self._give_up(session, f"not prepared: {error}")
                raise
        return IncomingReady(
            address=self._address,
            port=session.port,
            capabilities=capabilities,
            qemu_version=self._hypervisor.version,
            spawn_s=self._clock.monotonic() - began,
        )

    def _remember(self, session: Session) -> None:
        self.sessions[session.id] = session
        over = [k for k, s in self.sessions.items() if s.phase in {TargetPhase.GONE, TargetPhase.CLAIMED}]
        for key in over[: max(0, len(self.sessions) - REMEMBERED)]:
            del self.sessions[key]

    async def _build(self, session: Session, request: IncomingRequest) -> tuple[str, ...]:
        folders = self._vms.mounted(request.datastore).folders
        spec = MachineSpec(
            definition=request.vm,
            folder=folders.path(request.vm.name),
            nics=self._vms.nic_specs(request.vm),
            incoming=True,
            tags={
                "role": "incoming",
                "migration_id": session.id,
                "source": session.source,
                "datastore": session.datastore,
                "definition": request.vm.model_dump(mode="json"),
            },
        )
        machine = await self._hypervisor.spawn(spec)
        session.machine = machine
        session.watcher = asyncio.create_task(self._watch(session, machine))
        for mac, addresses in request.addresses.items():
            self._vms.network.teach(mac, addresses)
        common = tuple(sorted(set(request.capabilities) & await machine.migration_capabilities()))
        parameters: dict[str, Any] = {}
        if "multifd" in common:
            parameters["multifd-channels"] = request.channels
        if request.is_encrypted:
            parameters["tls-creds"] = "tls-server0"
        await machine.set_migration(dict.fromkeys(common, True), parameters)
        session.port = await self._listen(machine)
        return common

    async def _listen(self, machine: Machine) -> int:
        used = {s.port for s in self.sessions.values() if s.phase is TargetPhase.PREPARED}
        failure: ZugvogelError | None = None
        for port in range(self._first_port, self._first_port + PORTS):
            if port in used:
                continue
            try:
                await machine.listen(self._address, port)
            except ProcedureFailed as error:
                failure = error
                continue
            return port
        raise ProcedureFailed(f"no free migration port on {self._vms.host}: {failure}", "wait for others to end")

    async def _watch(self, session: Session, machine: Machine) -> None:
        async for event in machine.events():
            if event.name == "MIGRATION" and event.data.get("status") == "completed":
                session.is_loaded = True
            elif event.name in {"STOP", "RESUME"}:
                session.is_paused = event.name == "STOP"
            elif event.name == "EXITED" and session.phase is TargetPhase.PREPARED:
                session.phase = TargetPhase.GONE
                session.why = (
                    f"QEMU on {self._vms.host} ended before the vm ran there: {event.data.get('why', '')}"
                )

    # status, word, abort -------------------------------------------------------------------------

    async def _until_ready(self) -> None:
        try:
            await asyncio.wait_for(self.is_ready.wait(), START_WAIT_S)
        except TimeoutError:
            raise Unreachable(f"the agent of {self._vms.host} has just started", "try again") from None

    async def _session(self, payload: dict[str, Any]) -> Session:
        await self._until_ready()
        found = self.sessions.get(str(payload.get("migration_id", "")))
        if found is None:
            raise NotFound(f"{self._vms.host} knows nothing of this migration", "")
        found.heard_at = self._clock.monotonic()
        if "reaches_datastore" in payload:
            found.wanted.note(bool(payload["reaches_datastore"]), found.heard_at)
        return found

    def _status(self, session: Session) -> dict[str, Any]:
        return IncomingStatus(
            migration_id=session.id,
            phase=session.phase,
            is_loaded=session.is_loaded,
            has_run=session.has_run,
            epoch=session.epoch,
            why=session.why,
        ).model_dump(mode="json")

    async def _on_status(self, payload: dict[str, Any]) -> dict[str, Any]:
        return self._status(await self._session(payload))

    async def _on_word(self, payload: dict[str, Any]) -> dict[str, Any]:
        """The source says ``completed``: run it. Answers after the vCPUs run, or where they are to run as soon as
        this host's claim is linked; `gone` proves that they never did and never will."""
        session = await self._session(payload)
        await self.take_word(session)
        return self._status(session)

    async def take_word(self, session: Session) -> None:
        async with session.lock:
            if session.phase is not TargetPhase.PREPARED or session.machine is None:
                return
            machine = session.machine
            try:
                await self._until_loaded(session, machine)
                await self._failpoint("target.before-cont")
                await self._cont(session, machine)
            except ZugvogelError as error:
                await self._not_run(session, machine, error)
                return
            session.phase = TargetPhase.RUNNING
        self._spawn_background(self._after_word(session, machine))

    async def _cont(self, session: Session, machine: Machine) -> None:
        """Once `cont` is on its way only QEMU's own refusal proves that no vCPU ran. Not let go here where this
        host may have been counted as dead: it must claim first."""
        await machine.status()  # a QEMU that is gone already never ran the vm
        self._vms.run_unclaimed(machine, session.datastore)
        if not self._vms.may_run(session.datastore, session.since):
            log.warning(
                "%s: this host's beats have failed since it was prepared: claimed before it runs", session.vm
            )
            return
        session.has_run = session.is_going = True
        try:
            await machine.cont()
        except ProcedureFailed:
            session.has_run = session.is_going = False
            raise

    async def _not_run(self, session: Session, machine: Machine, error: ZugvogelError) -> None:
        """`cont` failed or was not reached. Only a dead QEMU proves that nothing runs, so it is ended."""
        await machine.kill()
        session.phase = TargetPhase.GONE
        session.why = f"{self._vms.host} could not run it: {error}"

    async def _until_loaded(self, session: Session, machine: Machine) -> None:
        """The source's word comes after its postmigrate, so this is at most the last moment of loading."""
        deadline = self._clock.monotonic() + 2.0
        while not session.is_loaded:
            sample = await machine.migration()
            if sample.status == "completed":
                session.is_loaded = True
            elif self._clock.monotonic() > deadline:
                raise ProcedureFailed(f"QEMU says {sample.status!r} instead of completed")
            else:
                await self._clock.sleep(0.01)

    async def _on_abort(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Answers `gone` when its QEMU is gone, so that no word, however late, lets it run here any more. With
        `vm` also for a migration of which nothing is left here; Refused while something of the vm is."""
        try:
            session = await self._session(payload)
        except NotFound:
            if "vm" not in payload:
                raise
            return self._nothing_left(str(payload["migration_id"]), str(payload["vm"]))
        async with session.lock:
            if session.phase is TargetPhase.PREPARED:
                await self._give_up(session, str(payload.get("why", "the source gave up")))
            elif session.phase is TargetPhase.GONE and session.machine is not None and session.machine.is_alive:
                await session.machine.kill()  # an abort that was cut off in the middle
        return self._status(session)

    def _nothing_left(self, migration_id: str, vm: str) -> dict[str, Any]:
        if self._vms.is_in_care(vm):
            raise Refused(f"{self._vms.host} still has something of {vm}", f"see: zv vm show {vm}")
        why = f"{self._vms.host} has nothing of it"
        status = IncomingStatus(migration_id=migration_id, phase=TargetPhase.GONE, is_loaded=False, why=why)
        return status.model_dump(mode="json")

    async def _give_up(self, session: Session, why: str) -> None:
        session.phase, session.why = TargetPhase.GONE, why
        if session.machine is not None:
            await session.machine.kill()

    # after the word ------------------------------------------------------------------------------

    async def _after_word(self, session: Session, machine: Machine) -> None:
        if session.is_going:
            await self._announce(session, machine)
        await self._failpoint("target.before-claim")
        await self._claim(session, machine)

    async def _announce(self, session: Session, machine: Machine) -> None:
        try:
            await machine.announce()
        except ZugvogelError as error:
            log.warning("%s: not announced: %s", session.vm, error)

    async def _claim(self, session: Session, machine: Machine) -> None:
        since = self._clock.monotonic()
        claim = HeirClaim(self._vms, session, machine)
        lease = await claim.link()
        if lease is None:
            await machine.kill()
            session.has_run = True  # whether it did or not, nobody else goes on from here
            session.phase, session.why = TargetPhase.GONE, claim.why
            told = f"{self._vms.host} ended its QEMU of {session.vm}: {claim.why}"
            if claim.is_elsewhere:
                self._vms.events.emit("vm.fenced", session.vm, told, severity=Severity.ERROR)
            else:
                log.error("%s", told)  # the source tells it, and what follows
            return
        guest = self._vms.admit(machine, session.definition, session.datastore, lease.epoch)
        guest.is_paused = session.is_paused
        session.epoch, session.phase = lease.epoch, TargetPhase.CLAIMED
        if not session.is_going and not await self._let_go(session, guest, since):
            return
        await self._tell_now()  # before the registry names this host: nobody finds the vm without its report
        await machine.set_tags(role="vm", epoch=guest.epoch)
        self._vms.inventory.observe(
            Observation(
                vm=session.vm,
                observed=VmState.RUNNING,
                host=self._vms.host,
                epoch=guest.epoch,
                why=f"live migration from {session.source}",
            )
        )
        if not machine.is_alive:
            guest.end_how = "killed right after the move"
            await self._vms.settle_end(guest)

    async def _let_go(self, session: Session, guest: Guest, since: float) -> bool:
        """It is claimed, and its memory is nowhere else: let it go as soon as that may be. False: it is ended
        here, since it is another host's by now or QEMU refuses."""
        while await may_go(self._vms, guest, since):
            session.has_run = True
            try:
                await guest.machine.cont()
            except ProcedureFailed as error:
                guest.failure_why = f"{self._vms.host} could not run it: {error}"
                break
            except ZugvogelError as error:
                log.warning("%s: not let go yet: %s", session.vm, error)
                await self._clock.sleep(AGAIN_S)
                continue
            session.is_going = True
            await self._announce(session, guest.machine)
            return True
        await guest.machine.kill()
        return False

    def _spawn_background(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    # rounds --------------------------------------------------------------------------------------

    async def tick(self) -> None:
        """Once a second: words that came by the datastore, sources that fell silent, heirs no longer named. It
        only begins to look: a datastore that does not answer holds up only its own."""
        for session in list(self.sessions.values()):
            if session.phase is TargetPhase.PREPARED and not session.lock.locked():
                self.looks.begin(session.id, partial(self._look_after, session))

    async def _look_after(self, session: Session) -> None:
        silent_s = self._clock.monotonic() - session.heard_at
        if silent_s < 3.0 and not session.is_loaded:
            return
        mounted = self._vms.mounted(session.datastore)
        if await self._records.has_word(session.datastore, session.vm, session.id):
            log.warning("%s: the word came by the datastore", session.vm)
            await self.take_word(session)
            return
        lease = await mounted.leases.read(session.vm)
        is_heir = lease is not None and lease.heir == self._vms.host and lease.migration_id == session.id
        if is_heir and (session.is_loaded or silent_s < session.patience_s):
            return
        if silent_s >= session.patience_s:
            async with session.lock:
                if session.phase is TargetPhase.PREPARED:
                    await self._give_up(
                        session, f"{session.source} fell silent and no longer names this host heir"
                    )

    # after a restart of the agent ------------------------------------------------------------------

    async def take_over(self, machine: Machine) -> None:
        """A QEMU that an earlier agent had prepared: wait on for the source's word."""
        tags = machine.tags
        session = Session(
            id=str(tags["migration_id"]),
            vm=machine.vm,
            definition=VmDefinition.model_validate(tags["definition"]),
            datastore=str(tags["datastore"]),
            source=str(tags["source"]),
            phase=TargetPhase.PREPARED,
            heard_at=self._clock.monotonic(),
            machine=machine,
            patience_s=ADOPTED_SILENCE_S,
        )
        self._remember(session)
        session.watcher = asyncio.create_task(self._watch(session, machine))
        # only one that was told to run is ever frozen
        is_frozen = machine.is_frozen
        status = MachineStatus.OTHER if is_frozen else await machine.status()
        if status in NOT_RUN:
            session.is_loaded = (await machine.migration()).status == "completed"
        else:
            session.phase, session.is_loaded, session.has_run = TargetPhase.RUNNING, True, True
            session.is_going = not is_frozen
            session.is_paused = status is MachineStatus.IO_ERROR
            self._vms.run_unclaimed(machine, session.datastore)
            self._spawn_background(self._after_word(session, machine))
