"""Operations: the cluster itself, its hosts, settings, tasks and events."""

from __future__ import annotations

import logging
from typing import Any

from zugvogel.core import cpu
from zugvogel.domain.cluster import Cluster
from zugvogel.domain.host import Host, HostFacts, HostStatus, Verdict
from zugvogel.domain.requests import JoinAnswer, JoinRequest
from zugvogel.domain.settings import SETTINGS
from zugvogel.domain.task import Event, Severity, Task
from zugvogel.errors import InvalidInput, NotFound, Refused, Unreachable
from zugvogel.ports.backend import BaselineStatus, SettingValue
from zugvogel.ports.caller import asked_by
from zugvogel.services.membership import Membership
from zugvogel.services.operations.dead_hosts import DeadHosts
from zugvogel.services.operations.world import World

log = logging.getLogger(__name__)


class ClusterOperations:
    def __init__(self, world: World, membership: Membership) -> None:
        self._w = world
        self._membership = membership
        self._dead = DeadHosts(world)
        world.handlers.update({"task.get": self._on_task, "task.cancel": self._on_cancel})

    # cluster and hosts -----------------------------------------------------------------------------

    async def cluster(self) -> Cluster:
        return self._w.inventory.cluster()

    async def baseline(self) -> BaselineStatus:
        facts = await self._host_facts()
        missing = {
            model: {host: flags for host, f in facts.items() if (flags := tuple(cpu.missing_flags(model, f)))}
            for model in cpu.MODELS
        }
        best = cpu.best_baseline(list(facts.values()))
        chosen = self._w.inventory.cluster().cpu_baseline
        return BaselineStatus(
            current=chosen or best,
            is_set=bool(chosen),
            best=best,
            missing=missing,
            vendors={host: f.cpu.vendor for host, f in facts.items()},
        )

    async def _host_facts(self) -> dict[str, HostFacts]:
        return {s.host.name: s.report.facts for s in await self._w.statuses() if s.report}

    async def set_baseline(self, model: str) -> BaselineStatus:
        status = await self.baseline()
        if model != "auto":
            if model not in cpu.MODELS:
                raise InvalidInput(f"there is no model {model}", f"models are: auto, {', '.join(cpu.MODELS)}")
            if lacking := status.missing[model]:
                told = "; ".join(f"{h} lacks {', '.join(flags)}" for h, flags in lacking.items())
                raise Refused(f"not every host can run {model}: {told}", f"the best for all is {status.best}")
        chosen = "" if model == "auto" else model
        cluster = self._w.inventory.cluster().model_copy(update={"cpu_baseline": chosen})
        await self._w.inventory.put("cluster", cluster)
        self._w.events.emit("cluster.baseline-set", cluster.name, f"the CPU baseline is {model}", by=asked_by())
        return await self.baseline()

    async def hosts(self) -> list[HostStatus]:
        return await self._w.statuses()

    async def host(self, name: str) -> HostStatus:
        return await self._w.status_of(name)

    async def local_host(self) -> Host:
        return self._w.host()

    async def remove_host(self, name: str) -> None:
        """Refused while it shows a sign of life, and while it holds a vm by its lease: that it is silent does not
        say that its vms have ended, so somebody must."""
        status = await self._w.status_of(name)
        if name == self._w.me or status.verdict is not Verdict.FAILED:
            raise Refused(f"{name} is {status.verdict}", "stop its agent first (systemctl stop zugvogel)")
        held, unread = await self._dead.held_by(name)
        if held:
            raise Refused(
                f"{name} still holds {', '.join(each.vm for each in held)}",
                f"stop them, or if it is gone for good: zv host confirm-dead {name}",
            )
        await self._membership.remove_host(name)
        unsure = f"; the leases of {', '.join(unread)} could not be read" if unread else ""
        told = f"{name} was removed from the cluster{unsure}"
        severity = Severity.WARNING if unread else Severity.INFO
        self._w.events.emit("host.removed", name, told, severity=severity, evidence={"unread": unread})

    async def confirm_dead(self, name: str) -> Task:
        """Somebody vouches that `name` runs nothing any more: its vms are released, to be started elsewhere.
        Refused unless its heartbeats and its beats have both stopped. Report: ``{"released": [vm],
        "left": {vm: why}}``."""
        return await self._dead.confirm(name)

    async def new_join_token(self) -> str:
        return await self._membership.new_join_token()

    async def join(self, request: JoinRequest) -> JoinAnswer:
        answer = await self._membership.join(request)
        self._w.events.emit("host.joined", request.name, f"{request.name} at {request.address} joined the cluster")
        return answer

    # settings ----------------------------------------------------------------------------------------

    async def settings(self) -> list[SettingValue]:
        return [SettingValue(s, self._w.inventory.setting(s.name)) for s in SETTINGS.values()]

    async def set_setting(self, name: str, value: int | str | bool) -> SettingValue:
        await self._w.inventory.set_setting(name, value)
        told = f"{name} is now {value}"
        self._w.events.emit("setting.changed", name, told, evidence={"value": value}, by=asked_by())
        return SettingValue(SETTINGS[name], value)

    # tasks and events ----------------------------------------------------------------------------------

    async def tasks(self) -> list[Task]:
        return await self._w.tasks.list()

    async def task(self, task_id: str, *, since: int = -1, wait_s: float = 0.0) -> Task:
        """From the owner while it runs, from the registry otherwise."""
        payload = {"id": task_id, "since": since, "wait_s": wait_s}
        if owner := self._w.task_owners.get(task_id):
            try:
                return await self._task_of(owner, payload)
            except (NotFound, Unreachable) as error:  # the owner is gone: the registry may know how it ended
                log.info("%s does not tell of task %s: %s", owner, task_id, error)
        known = await self._w.tasks.get(task_id)
        if known.owner == self._w.me:
            return await self._w.tasks.wait(task_id, since, wait_s)
        if known.state.is_final:
            return known
        return await self._task_of(known.owner, payload)

    async def _task_of(self, owner: str, payload: dict[str, Any]) -> Task:
        answer = await self._w.on(owner, "task.get", payload, timeout_s=payload["wait_s"] + 10)
        return Task.model_validate(answer)

    async def _on_task(self, payload: dict[str, Any]) -> dict[str, Any]:
        task = await self._w.tasks.wait(str(payload["id"]), int(payload["since"]), float(payload["wait_s"]))
        return task.model_dump(mode="json")

    async def cancel_task(self, task_id: str) -> Task:
        owner = self._w.task_owners.get(task_id) or (await self._w.tasks.get(task_id)).owner
        return Task.model_validate(await self._w.on(owner, "task.cancel", {"id": task_id}))

    async def _on_cancel(self, payload: dict[str, Any]) -> dict[str, Any]:
        return self._w.tasks.cancel(str(payload["id"])).model_dump(mode="json")

    async def events(
        self, *, after: str = "", limit: int = 200, subject: str = "", vm: str = "", host: str = "", kind: str = ""
    ) -> list[Event]:
        return await self._w.events.list(after=after, limit=limit, subject=subject, vm=vm, host=host, kind=kind)

    async def health(self) -> dict[str, Any]:
        return {"host": self._w.me, "status": "ok", "is_registry_loaded": self._w.inventory.is_loaded.is_set()}
