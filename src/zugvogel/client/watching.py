"""What `watch` tells, and putting it together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

from zugvogel.client.calling import parsed
from zugvogel.domain.answers import DatastoreView, EventView, HaView, HostView, SettingView
from zugvogel.domain.cluster import Cluster
from zugvogel.domain.network import Network
from zugvogel.domain.task import Task
from zugvogel.domain.vm import VmView

Key: TypeAlias = str
Fields: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Change:
    """`is_whole`: all there is of `topic`; else of known keys only the fields that changed. `gone`: keys that
    are no more."""

    topic: str
    is_whole: bool
    changed: dict[Key, Fields]
    gone: tuple[Key, ...] = ()


@dataclass(frozen=True, slots=True)
class Trouble:
    """`topic` cannot be read now; `cause` empty: it can again."""

    topic: str
    cause: str
    next_step: str = ""


@dataclass(frozen=True, slots=True)
class Ready:
    """Every topic was told once."""


Message = Change | Trouble | Ready


def message_of(event: str, data: Any) -> Message | None:
    """None: this version does not know what it is."""
    if event == "ready":
        return Ready()
    if event == "trouble":
        return Trouble(data["topic"], data["cause"], data.get("next_step", ""))
    if isinstance(data, dict) and "changed" in data:
        return Change(event, data["whole"], data["changed"], tuple(data["gone"]))
    return None


@dataclass(slots=True)
class Picture:
    """The cluster as far as it was told: `apply` each message of `watch`, of a new one after a break too.

    `raw` has it as plain JSON: topic -> key -> fields; the properties as models, parsed when asked for."""

    raw: dict[str, dict[Key, Fields]] = field(default_factory=dict)
    troubles: dict[str, Trouble] = field(default_factory=dict)
    is_ready: bool = False

    def apply(self, message: Message) -> None:
        if isinstance(message, Ready):
            self.is_ready = True
        elif isinstance(message, Trouble):
            self.troubles.pop(message.topic, None)
            if message.cause:
                self.troubles[message.topic] = message
        else:
            self._change(message)

    def _change(self, change: Change) -> None:
        held = {} if change.is_whole else self.raw.get(change.topic, {})
        for key, fields in change.changed.items():
            held[key] = {**held.get(key, {}), **fields}
        for key in change.gone:
            held.pop(key, None)
        self.raw[change.topic] = held

    @property
    def cluster(self) -> Cluster | None:
        return self._as(Cluster, "cluster").get("cluster")

    @property
    def ha(self) -> HaView | None:
        return self._as(HaView, "ha").get("ha")

    @property
    def hosts(self) -> dict[str, HostView]:
        return self._as(HostView, "hosts")

    @property
    def vms(self) -> dict[str, VmView]:
        return self._as(VmView, "vms")

    @property
    def datastores(self) -> dict[str, DatastoreView]:
        return self._as(DatastoreView, "datastores")

    @property
    def networks(self) -> dict[str, Network]:
        return self._as(Network, "networks")

    @property
    def settings(self) -> dict[str, SettingView]:
        return self._as(SettingView, "settings")

    @property
    def tasks(self) -> dict[str, Task]:
        return self._as(Task, "tasks")

    @property
    def events(self) -> dict[str, EventView]:
        return self._as(EventView, "events")

    def _as(self, model: type[Any], topic: str) -> dict[str, Any]:
        return {key: parsed(model, fields) for key, fields in self.raw.get(topic, {}).items()}
