"""Operations: datastores and networks."""

from __future__ import annotations

import asyncio
import secrets
import uuid
from typing import Any

from zugvogel.core.death_proof import proof_of, unsafe
from zugvogel.core.filesystems import refusal_of, unproven_sharing
from zugvogel.domain.datastore import Datastore, FileSystem, Sharing
from zugvogel.domain.ha import Proof
from zugvogel.domain.host import DatastoreReport, Verdict
from zugvogel.domain.network import Network
from zugvogel.domain.requests import AddDatastore, AddNetwork, ChangeDatastore
from zugvogel.domain.task import Task
from zugvogel.errors import AlreadyExists, InvalidInput, Refused, ZugvogelError
from zugvogel.ports.backend import DatastoreStatus
from zugvogel.services.operations.world import World
from zugvogel.services.tasks import TaskContext

BEATING_S = 15.0


class StorageOperations:
    def __init__(self, world: World) -> None:
        self._w = world
        world.handlers.update(
            {
                "datastore.recognise": self._on_recognise,
                "datastore.write-probe": self._on_write_probe,
                "datastore.read-probes": self._on_read_probes,
            }
        )

    # datastores ------------------------------------------------------------------------------------

    async def datastores(self) -> list[DatastoreStatus]:
        statuses = await self._w.statuses()
        return [DatastoreStatus(d, self._by_host(d.name, statuses)) for d in self._w.inventory.datastores()]

    @staticmethod
    def _by_host(name: str, statuses: list[Any]) -> dict[str, DatastoreReport]:
        found = {}
        for status in statuses:
            for report in status.report.datastores if status.report else ():
                if report.name == name:
                    found[status.host.name] = report
        return found

    async def add_datastore(self, request: AddDatastore) -> Task:
        if not request.path.startswith("/") or ".." in request.path.split("/"):
            raise InvalidInput(f"{request.path!r} is no absolute path", "give the mount point, e.g. /srv/vms")
        for known in self._w.inventory.datastores():
            if request.name == known.name or request.path.rstrip("/") == known.path:
                raise AlreadyExists(
                    f"datastore {known.name} at {known.path} exists already", "see: zv datastore list"
                )

        async def work(ctx: TaskContext) -> dict[str, Any]:
            return await self._add(ctx, request)

        return self._w.tasks.start("datastore.add", request.name, work)

    async def _add(self, ctx: TaskContext, request: AddDatastore) -> dict[str, Any]:
        path = request.path.rstrip("/")
        live = [s.host.name for s in await self._w.statuses() if s.verdict in {Verdict.LIVE, Verdict.MAINTENANCE}]
        ctx.progress("recognise", f"looking at {path} on {len(live)} hosts")
        kinds = await self._each(live, "datastore.recognise", {"path": path})
        systems = {h: FileSystem.model_validate(a) for h, a in kinds.items()}
        self._refuse(refusal_of(systems, request.is_local_allowed))
        ctx.progress("prove", "each host writes a beat that all others must see")
        sees = await self._prove(path, live)
        self._refuse(unproven_sharing(path, sees))
        sharing = {s.sharing for s in systems.values()}
        is_proven = len(live) > 1 and Sharing.LOCAL not in sharing
        shared = sharing == {Sharing.SHARED} or is_proven
        datastore = Datastore(
            name=request.name,
            id=str(uuid.uuid4()),
            path=path,
            kind=systems[self._w.me].kind,
            is_shared=shared,
            added_at=self._w.clock.now_iso(),
        )
        ctx.progress("initialise", "writing its id")
        await self._w.datastores.initialise(datastore)
        await self._w.inventory.put(f"datastores/{request.name}", datastore, revision=0)
        self._w.events.emit(
            "datastore.added",
            request.name,
            f"datastore {request.name} at {path} ({datastore.kind}) was added",
            evidence={"hosts": {h: sorted(s) for h, s in sees.items()}, "is_shared": shared},
            task=ctx.id,
        )
        ctx.progress("beats", "waiting for the first beat of every host")
        waiting = await self._until_beating(request.name, live)
        return {
            "waiting_for": waiting,
            "datastore": request.name,
            "kind": datastore.kind,
            "is_shared": shared,
            "hosts": {h: f"sees the beats of {', '.join(sorted(s))}" for h, s in sees.items()},
        }

    async def _until_beating(self, name: str, hosts: list[str]) -> list[str]:
        """Until every one of `hosts` reports it usable; the hosts that did not within BEATING_S."""
        deadline = self._w.clock.monotonic() + BEATING_S
        while True:
            reports = self._by_host(name, await self._w.statuses())
            waiting = [h for h in hosts if h not in reports or not reports[h].is_usable]
            if not waiting or self._w.clock.monotonic() > deadline:
                return waiting
            await self._w.clock.sleep(0.2)

    @staticmethod
    def _refuse(findings: list[str]) -> None:
        if findings:
            raise Refused("; ".join(findings), "")

    async def _each(self, hosts: list[str], command: str, payload: dict[str, Any]) -> dict[str, dict[str, Any]]:
        answers = await asyncio.gather(*(self._one(h, command, payload) for h in hosts))
        return dict(zip(hosts, answers, strict=True))

    async def _one(self, host: str, command: str, payload: dict[str, Any]) -> dict[str, Any]:
        try:
            return await self._w.on(host, command, payload)
        except ZugvogelError as error:
            raise Refused(f"{host}: {error.cause}", error.next_step or "every live host must reach it") from error

    async def _prove(self, path: str, hosts: list[str]) -> dict[str, set[str]]:
        nonce = secrets.token_hex(8)
        try:
            await self._each(hosts, "datastore.write-probe", {"path": path, "nonce": nonce})
            answers = await self._each(hosts, "datastore.read-probes", {"path": path, "nonce": nonce})
        finally:
            await self._each(hosts, "datastore.read-probes", {"path": path, "nonce": nonce, "clear": True})
        return {h: set(a["hosts"]) for h, a in answers.items()}

    async def _on_recognise(self, payload: dict[str, Any]) -> dict[str, Any]:
        return (await self._w.datastores.recognise(str(payload["path"]))).model_dump(mode="json")

    async def _on_write_probe(self, payload: dict[str, Any]) -> dict[str, Any]:
        await self._w.datastores.write_probe(str(payload["path"]), str(payload["nonce"]), self._w.me)
        return {}

    async def _on_read_probes(self, payload: dict[str, Any]) -> dict[str, Any]:
        path, nonce = str(payload["path"]), str(payload["nonce"])
        if payload.get("clear"):
            await self._w.datastores.clear_probes(path, nonce)
            return {"hosts": []}
        return {"hosts": sorted(await self._w.datastores.read_probes(path, nonce))}

    async def change_datastore(self, name: str, request: ChangeDatastore) -> DatastoreStatus:
        before = self._w.inventory.datastore(name)
        proof = None if request.proof == "default" else Proof(request.proof)
        if proof is not None and (why := unsafe(proof, before)):
            raise Refused(why, "choose guard, fence or confirm; what each means: zv datastore set --help")
        after = before.model_copy(update={"proof": proof})
        await self._w.inventory.put(f"datastores/{name}", after)
        found = proof_of(after)
        self._w.events.emit(
            "datastore.changed",
            name,
            f"vms on {name} are started elsewhere by the proof {found.proof}: {found.why}",
            evidence={"proof": found.proof, "is_chosen": found.is_chosen, "before": proof_of(before).proof},
        )
        statuses = await self._w.statuses()
        return DatastoreStatus(after, self._by_host(name, statuses))

    async def remove_datastore(self, name: str) -> None:
        self._w.inventory.datastore(name)
        users = [v.definition.name for v in self._w.inventory.vms() if v.datastore == name]
        if users:
            raise Refused(
                f"datastore {name} holds vms: {', '.join(users[:5])}",
                "delete or unregister them first: zv vm list",
            )
        await self._w.inventory.delete(f"datastores/{name}")
        self._w.events.emit("datastore.removed", name, f"datastore {name} was removed; its files stay")

    # networks --------------------------------------------------------------------------------------

    async def networks(self) -> list[Network]:
        return self._w.inventory.networks()

    async def add_network(self, request: AddNetwork) -> Network:
        for host in request.hosts:
            self._w.inventory.host(host)
        known = next((n for n in self._w.inventory.networks() if n.name == request.name), None)
        bridges = dict.fromkeys(request.hosts or ("*",), request.bridge)
        if known is not None:
            if (known.vlan, known.mtu) != (request.vlan, request.mtu):
                raise Refused(
                    f"network {known.name} has VLAN {known.vlan} and MTU {known.mtu} in the cluster",
                    "give the same, or choose another name",
                )
            bridges = {**known.bridges, **bridges}
        await self._refuse_missing_bridges(request)
        network = Network(name=request.name, bridges=bridges, vlan=request.vlan, mtu=request.mtu)
        await self._w.inventory.put(f"networks/{network.name}", network)
        self._w.events.emit("network.added", network.name, f"network {network.name} on {request.bridge}")
        return network

    async def _refuse_missing_bridges(self, request: AddNetwork) -> None:
        statuses = [s for s in await self._w.statuses() if s.report is not None]
        wanted = [s for s in statuses if not request.hosts or s.host.name in request.hosts]
        lacking = [
            s.host.name
            for s in wanted
            if s.report is not None and request.bridge not in {b.name for b in s.report.facts.bridges}
        ]
        if wanted and len(lacking) == len(wanted):
            raise Refused(
                f"no bridge {request.bridge} on {', '.join(lacking)}",
                "make the bridge first, e.g. ip link add br0 type bridge",
            )

    async def remove_network(self, name: str) -> None:
        self._w.inventory.network(name)
        users = [
            v.definition.name
            for v in self._w.inventory.vms()
            if any(nic.network == name for nic in v.definition.nics)
        ]
        if users:
            raise Refused(f"network {name} is used by {', '.join(users[:5])}", "delete those vms first")
        await self._w.inventory.delete(f"networks/{name}")
        self._w.events.emit("network.removed", name, f"network {name} was removed")
