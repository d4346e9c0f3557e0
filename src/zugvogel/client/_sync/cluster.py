"""The cluster, its hosts, settings and high availability."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from zugvogel.client._sync.calls import Calls
from zugvogel.domain.answers import (
    BaselineView,
    Done,
    FenceView,
    HaView,
    HostView,
    JoinTokenView,
    RolesView,
    SettingView,
)
from zugvogel.domain.cluster import Cluster
from zugvogel.domain.ha import Explanation, FailoverPlan
from zugvogel.domain.requests import (
    ChangeHost,
    JoinAnswer,
    JoinRequest,
    Maintenance,
    ReformRegistry,
    SetBaseline,
    SetFence,
    SetSetting,
)
from zugvogel.domain.task import Task


class ClusterCalls(Calls):
    def cluster(self) -> Cluster:
        """The cluster's own record."""
        return self._get(Cluster, "/cluster")

    def baseline(self) -> BaselineView:
        """CPU model of the cluster and what stands against higher ones."""
        return self._get(BaselineView, "/cluster/baseline")

    def set_baseline(self, model: str) -> BaselineView:
        """The CPU model that new vms get; "auto": the best that every host can run."""
        return self._put(BaselineView, "/cluster/baseline", body=SetBaseline(model=model))

    def reconfigure(self) -> RolesView:
        """Give the roles of primary and secondary out anew, at random."""
        return self._post(RolesView, "/cluster/reconfigure")

    def reform(self, host: str) -> Done:
        """Form the registry anew from the data of `host`, at the price of what others had newer."""
        return self._post(Done, "/cluster/reform", body=ReformRegistry(host=host))

    def hosts(self) -> list[HostView]:
        """All hosts with their verdicts."""
        return self._get(list[HostView], "/hosts")

    def host(self, name: str) -> HostView:
        """One host."""
        return self._get(HostView, "/hosts/{name}", name)

    def change_host(self, name: str, request: ChangeHost) -> HostView:
        """Change what is known of a host."""
        return self._patch(HostView, "/hosts/{name}", name, body=request)

    def remove_host(self, name: str) -> Done:
        """Forget a host that is gone for good."""
        return self._delete(Done, "/hosts/{name}", name)

    def maintain_host(self, name: str, request: Maintenance) -> Task:
        """Into maintenance, which empties it, or out of it."""
        return self._post(Task, "/hosts/{name}/maintenance", name, body=request)

    def confirm_dead(self, name: str) -> Task:
        """Vouch that a failed host runs nothing any more, so that its vms may start elsewhere."""
        return self._post(Task, "/hosts/{name}/confirm-dead", name)

    def fence(self, name: str) -> FenceView:
        """The device that can cut a host's power. Raises NotFound where none is configured."""
        return self._get(FenceView, "/hosts/{name}/fence", name)

    def set_fence(self, name: str, request: SetFence) -> FenceView:
        """Configure it, in place of the one before."""
        return self._put(FenceView, "/hosts/{name}/fence", name, body=request)

    def remove_fence(self, name: str) -> Done:
        """Forget it."""
        return self._delete(Done, "/hosts/{name}/fence", name)

    def test_fence(self, name: str) -> Task:
        """Have every primary ask the device for the state of the power. Nothing is switched."""
        return self._post(Task, "/hosts/{name}/fence/test", name)

    def new_join_token(self) -> JoinTokenView:
        """A one-time token for `zv host join`."""
        return self._post(JoinTokenView, "/join-tokens")

    def join(self, request: JoinRequest) -> JoinAnswer:
        """Add a host. Needs no bearer: the one-time token in the request is the right to join."""
        return self._post(JoinAnswer, "/join", body=request)

    def settings(self) -> list[SettingView]:
        """All settings with value, default, unit, bounds and reason."""
        return self._get(list[SettingView], "/settings")

    def set_setting(self, name: str, value: bool | int | str) -> SettingView:
        """Change a setting for the whole cluster."""
        return self._put(SettingView, "/settings/{name}", name, body=SetSetting(value=value))

    def ha(self) -> HaView:
        """Is it enabled, who judges, what room is kept free, what protects vms, what is being restarted."""
        return self._get(HaView, "/ha")

    def enable_ha(self) -> HaView:
        """Restart vms of failed hosts from now on, and run isolation responses."""
        return self._post(HaView, "/ha/enable")

    def disable_ha(self) -> HaView:
        """Restart nothing, freeze nothing, run no isolation response. Hosts are still judged."""
        return self._post(HaView, "/ha/disable")

    def ha_plan(self, fail: Sequence[str]) -> FailoverPlan:
        """Who would restart where if all hosts of `fail` failed now. Nothing is touched."""
        return self._get(FailoverPlan, "/ha/plan", params={"fail": list(fail)})

    def explain(self, subject: str, kind: Literal["host", "vm"] | None = None) -> Explanation:
        """Why a host or a vm is as it is. A host comes first where a vm has the same name; `kind` chooses."""
        return self._get(Explanation, "/ha/explain/{subject}", subject, params={"kind": kind})
