from __future__ import annotations

from pathlib import Path

import pytest

from zugvogel.adapters.host_state import AgentConfig, ConsoleFiles
from zugvogel.adapters.pki import Pki
from zugvogel.agent.console import USER, console_config
from zugvogel.console.config import ConsoleConfig


def made(tmp_path: Path, files: ConsoleFiles) -> ConsoleConfig:
    config = AgentConfig(name="host1", address="192.0.2.11", cluster="birds", console=files)
    return ConsoleConfig.model_validate(console_config(config, Pki(tmp_path), "console.token"))


def test_it_listens_beside_the_agent_and_asks_it_first(tmp_path: Path) -> None:
    config = made(tmp_path, ConsoleFiles())
    assert (config.host, config.address, config.port) == ("host1", "192.0.2.11", 7445)
    assert config.api_urls == ["https://192.0.2.11:7440"]
    assert config.token == "console.token"
    assert config.ca_file == str(Pki(tmp_path).ca_certificate)
    assert config.user == USER == "nobody"


def test_without_files_of_its_own_it_shows_the_hosts_certificate(tmp_path: Path) -> None:
    config = made(tmp_path, ConsoleFiles())
    pki = Pki(tmp_path)
    assert (config.certificate, config.key) == (str(pki.host_certificate), str(pki.host_key))
    assert config.is_secure


def test_files_of_its_own_are_shown(tmp_path: Path) -> None:
    config = made(tmp_path, ConsoleFiles(certificate="/etc/c.pem", key="/etc/k.pem"))
    assert (config.certificate, config.key) == ("/etc/c.pem", "/etc/k.pem")


@pytest.mark.parametrize("half", [ConsoleFiles(certificate="/etc/c.pem"), ConsoleFiles(key="/etc/k.pem")])
def test_one_file_alone_is_none(tmp_path: Path, half: ConsoleFiles) -> None:
    assert made(tmp_path, half).certificate == str(Pki(tmp_path).host_certificate)
