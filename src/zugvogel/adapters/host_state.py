"""What an agent keeps on its own disk: its configuration, its keys, the hosts and datastores it last knew, the
generation of its registry data."""

from __future__ import annotations

import json
import logging
import os
import tomllib
from pathlib import Path

import tomli_w
from pydantic import ValidationError

from zugvogel.adapters.pki import Pki, write_secret
from zugvogel.domain.base import HostName, Model
from zugvogel.domain.cluster import Cluster, Token
from zugvogel.domain.datastore import Datastore
from zugvogel.domain.host import Host, Ports
from zugvogel.domain.overrides import Overrides
from zugvogel.errors import InvalidInput, Refused

log = logging.getLogger(__name__)


class ConsoleFiles(Model):
    """PEM files for the web console; empty: the host's own."""

    certificate: str = ""
    key: str = ""


class AgentConfig(Model):
    """``agent.toml``, without its ``[overrides]``."""

    name: HostName
    address: str
    cluster: str
    joined_at: str = ""
    """`Host.joined_at` of this machine's own joining; another one in the registry: it was replaced."""
    migration_address: str = ""
    ports: Ports = Ports()
    console: ConsoleFiles = ConsoleFiles()


class Initial(Model):
    """What `zv cluster init` wants in the registry; the first agent writes it into its empty etcd."""

    cluster: Cluster
    host: Host
    token: Token


class HostState:
    def __init__(self, config_dir: Path, state_dir: Path) -> None:
        self.config_file = config_dir / "agent.toml"
        self.state_dir = state_dir
        self.pki = Pki(state_dir / "pki")
        self._overrides = Overrides()
        self._overrides_mtime = -1

    @property
    def is_member(self) -> bool:
        return self.config_file.exists()

    @property
    def etcd_dir(self) -> Path:
        return self.state_dir / "etcd"

    @property
    def _hosts_file(self) -> Path:
        return self.state_dir / "hosts.json"

    @property
    def _datastores_file(self) -> Path:
        return self.state_dir / "datastores.json"

    @property
    def _generation_file(self) -> Path:
        return self.state_dir / "registry.json"

    @property
    def _initial_file(self) -> Path:
        return self.state_dir / "initial.json"

    # configuration -------------------------------------------------------------------------------

    def load_config(self) -> AgentConfig:
        """Raises Refused where this host is of no cluster, InvalidInput where the file is wrong."""
        try:
            return AgentConfig.model_validate(tomllib.loads(self.config_file.read_text()))
        except FileNotFoundError:
            raise Refused(
                "this host is not a member of a cluster",
                "begin one with: zv cluster init, or join one with: zv host join URL --token T",
            ) from None
        except (tomllib.TOMLDecodeError, ValidationError) as error:
            raise InvalidInput(
                f"{self.config_file} is wrong: {error}", "mend it and start the agent again"
            ) from error

    def save_config(self, config: AgentConfig) -> None:
        self.config_file.parent.mkdir(parents=True, exist_ok=True)
        head = "# Written by `zv cluster init` or `zv host join`. [overrides] may be added by hand.\n"
        write_secret(self.config_file, (head + tomli_w.dumps(config.model_dump(mode="json"))).encode())

    def overrides(self) -> Overrides:
        """``[overrides]``, read again whenever the file changed; a wrong one leaves the last good ones."""
        try:
            mtime = self.config_file.stat().st_mtime_ns
            if mtime != self._overrides_mtime:
                self._overrides_mtime = mtime
                data = tomllib.loads(self.config_file.read_text()).get("overrides", {})
                self._overrides = Overrides.model_validate(data)
        except (OSError, tomllib.TOMLDecodeError, ValidationError) as error:
            log.warning("[overrides] of %s not taken: %s", self.config_file, error)
        return self._overrides

    # hosts and keys --------------------------------------------------------------------------------

    def load_hosts(self) -> list[Host]:
        try:
            return [Host.model_validate(h) for h in json.loads(self._hosts_file.read_text())]
        except (OSError, ValueError):
            return []

    def save_hosts(self, hosts: list[Host]) -> None:
        write_secret(self._hosts_file, json.dumps([h.model_dump(mode="json") for h in hosts], indent=1).encode())

    # the registry's data --------------------------------------------------------------------------

    def load_datastores(self) -> list[Datastore]:
        """Raises InvalidInput for a file that cannot be read: without it an old generation could not be told."""
        try:
            return [Datastore.model_validate(d) for d in json.loads(self._datastores_file.read_text())]
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise _wrong(self._datastores_file, error) from error

    def save_datastores(self, datastores: list[Datastore]) -> None:
        data = json.dumps([d.model_dump(mode="json") for d in datastores], indent=1)
        write_secret(self._datastores_file, data.encode())

    def load_generation(self) -> int:
        """Of the etcd data on this host; 0 before anything was formed anew. Raises InvalidInput."""
        try:
            return int(json.loads(self._generation_file.read_text())["generation"])
        except FileNotFoundError:
            return 0
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _wrong(self._generation_file, error) from error

    def save_generation(self, generation: int) -> None:
        write_secret(self._generation_file, json.dumps({"generation": generation}).encode())
        folder = os.open(self.state_dir, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def heartbeat_key(self) -> bytes:
        return bytes.fromhex(self.pki.heartbeat_key.read_text().strip())

    # the first host --------------------------------------------------------------------------------

    def load_initial(self) -> Initial | None:
        try:
            return Initial.model_validate_json(self._initial_file.read_text())
        except FileNotFoundError:
            return None

    def save_initial(self, initial: Initial) -> None:
        write_secret(self._initial_file, initial.model_dump_json(indent=1).encode())

    def drop_initial(self) -> None:
        self._initial_file.unlink(missing_ok=True)

    def make_directories(self) -> None:
        for path in (self.state_dir, self.pki.directory):
            path.mkdir(parents=True, exist_ok=True)
        self.state_dir.chmod(0o711)


def _wrong(file: Path, error: Exception) -> InvalidInput:
    return InvalidInput(f"{file} is wrong: {error}", "mend it; docs/explanation/registry.md says what it is for")
