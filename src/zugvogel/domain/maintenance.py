"""Maintenance of a host: what was moved away from it, and what came of it."""

from __future__ import annotations

from typing import Literal

from zugvogel.domain.base import HostName, Model, Name


class VmMove(Model):
    """What became of one vm. `how` empty: no move was begun. `host`: where it is now."""

    vm: Name
    result: Literal["moved", "stayed"]
    how: Literal["", "live", "quick"] = ""
    host: HostName | None = None
    why: str = ""


class MaintenanceRecord(Model):
    """``maintenance/<host>`` in the registry: the vms that were moved away when maintenance was last begun, until
    they are brought back or it is begun anew."""

    host: HostName
    vms: tuple[Name, ...] = ()


class MaintenanceReport(Model):
    """Of a task `host.maintenance`. `successor`: who took over its primary's role."""

    host: HostName
    is_in_maintenance: bool
    successor: HostName | None = None
    vms: tuple[VmMove, ...] = ()
