"""What a console is given when it starts: one line of JSON on its standard input."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class ConsoleConfig(BaseModel):
    """`api_urls`: the agent of this host first. `token`: of the agent, for reading what all pages show; what
    people ask for is asked with their own. `certificate`, `key`: files for HTTPS; empty: plain HTTP, on loopback
    alone. `user`: whose rights the process keeps once it listens; empty: those it was started with."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)
    host: str
    address: str
    port: int
    api_urls: list[str]
    token: str
    ca_file: str = ""
    certificate: str = ""
    key: str = ""
    user: str = ""

    @property
    def is_secure(self) -> bool:
        return bool(self.certificate)
