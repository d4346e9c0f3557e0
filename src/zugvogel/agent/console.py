"""The web console beside the agent: a process of its own (`zugvogel.adapters.console_process`), so that no page
slows a heartbeat and what browsers talk to has none of the agent's rights."""

from __future__ import annotations

from typing import Any

from zugvogel.adapters.host_state import AgentConfig
from zugvogel.adapters.pki import Pki

USER = "nobody"


def console_config(config: AgentConfig, pki: Pki, token: str) -> dict[str, Any]:
    """A `zugvogel.console.config.ConsoleConfig`. `token`: with which it reads what all pages show."""
    has_own = bool(config.console.certificate and config.console.key)
    return {
        "host": config.name,
        "address": config.address,
        "port": config.ports.console,
        "api_urls": [f"https://{config.address}:{config.ports.api}"],
        "token": token,
        "ca_file": str(pki.ca_certificate),
        "certificate": config.console.certificate if has_own else str(pki.host_certificate),
        "key": config.console.key if has_own else str(pki.host_key),
        "user": USER,
    }
