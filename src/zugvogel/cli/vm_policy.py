"""What becomes of a vm when its host fails: options of `zv vm create` and `zv vm set`, and how it is shown."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from zugvogel.cli.options import complete_hosts, names_of
from zugvogel.errors import InvalidInput


class Priority(StrEnum):
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    DISABLED = "disabled"


class Response(StrEnum):
    DEFAULT = "default"
    LEAVE = "leave"
    SHUTDOWN = "shutdown"
    POWEROFF = "poweroff"
    SUSPEND = "suspend"


class Monitoring(StrEnum):
    OFF = "off"
    CRASH = "crash"
    GUEST = "guest"


PriorityOption = Annotated[
    Priority | None,
    typer.Option("--restart-priority", help="Order of restarts when hosts fail; disabled: it stays down."),
]
ResponseOption = Annotated[
    Response | None,
    typer.Option(
        "--isolation-response", help="What its host does with it when cut off; default: das.isolationresponse."
    ),
]
AntiAffinityOption = Annotated[
    str | None,
    typer.Option("--anti-affinity", metavar="GROUP", help='Vms of a group are kept on different hosts; "": none.'),
]
PreferOption = Annotated[
    str | None,
    typer.Option(
        "--prefer", metavar="HOST[,HOST]", autocompletion=complete_hosts, help='Hosts to try first; "": none.'
    ),
]
MonitoringOption = Annotated[
    Monitoring | None,
    typer.Option(
        "--monitoring",
        help="crash: restart it when its QEMU dies or its kernel panics; guest: when it hangs, too.",
    ),
]


def policy_of(
    priority: Priority | None,
    response: Response | None,
    anti_affinity: str | None,
    prefer: str | None,
    monitoring: Monitoring | None,
) -> dict[str, Any]:
    """Only what was given. Raises InvalidInput."""
    given = {
        "restart_priority": priority and priority.value,
        "isolation_response": response and response.value,
        "anti_affinity": anti_affinity,
        "preferred_hosts": None if prefer is None else _preferred(prefer),
        "monitoring": monitoring and monitoring.value,
    }
    return {name: value for name, value in given.items() if value is not None}


def _preferred(text: str) -> list[str]:
    """None of them only where that is said: the list is cleared then."""
    names = names_of([text])
    if text and not names:
        raise InvalidInput(f"--prefer {text!r} names no host", "e.g. --prefer host2,host1; '' clears the list")
    return names


def facts(policy: dict[str, Any]) -> list[tuple[str, Any]]:
    """For `zv vm show`."""
    response = policy["isolation_response"]
    return [
        ("restart priority", policy["restart_priority"]),
        ("isolation response", "as das.isolationresponse says" if response == "default" else response),
        ("anti-affinity", policy["anti_affinity"]),
        ("preferred hosts", policy["preferred_hosts"]),
        ("monitoring", policy["monitoring"]),
    ]
