"""Virtual networks: a name, a VLAN and an MTU that are the same on every host; the bridge may differ."""

from __future__ import annotations

from pydantic import Field

from zugvogel.domain.base import HostName, Model, Name


class Network(Model):
    """`bridges`: host -> bridge; the key ``*`` is the bridge of every host not named. `vlan` 0: untagged.
    `mtu` 0: whatever the bridge has."""

    name: Name
    bridges: dict[str, str]
    vlan: int = Field(default=0, ge=0, le=4094)
    mtu: int = Field(default=0, ge=0, le=65535)

    def bridge_on(self, host: HostName) -> str | None:
        return self.bridges.get(host, self.bridges.get("*"))
