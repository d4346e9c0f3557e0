"""zugvogel.cli.commands_fence"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Served, Zv

IPMI = ("--agent", "fence_ipmilan", "--parameter", "ip=192.0.2.13", "--parameter", "username=fence")


@pytest.fixture
def password(tmp_path: Path) -> Path:
    file = tmp_path / "password"
    file.write_text("s3cret = more\nand a second line\n")
    return file


def test_it_is_configured_shown_tried_and_removed(zv: Zv, served: Served, password: Path) -> None:
    made = zv("host", "fence-config", "host2", *IPMI, "--password-file", str(password), "--json")
    assert made.code == 0, made.err
    assert made.json["parameters"] == {"ip": "192.0.2.13", "password": "********", "username": "fence"}
    assert served.backend.fences["host2"].secrets == {"password": "s3cret = more"}
    shown = zv("host", "fence-config", "host2")
    assert "fence_ipmilan" in shown.out
    assert "s3cret" not in shown.out + shown.err
    tried = zv("host", "fence-config", "host2", "--test")
    assert (tried.code, "host1" in tried.out, "it says on" in tried.out) == (0, True, True)
    assert zv("host", "fence-config", "host2", "--test", "--json").json["works"] is True
    assert zv("host", "fence-config", "host2", "--remove").code == 0
    gone = zv("host", "fence-config", "host2")
    assert (gone.code, "no device" in gone.err) == (1, True)
    untried = zv("host", "fence-config", "host2", "--test")
    assert (untried.code, "fence-config host2 --agent" in untried.err) == (1, True)


def test_one_that_does_not_work_ends_with_an_error(zv: Zv) -> None:
    ran = zv("host", "fence-config", "host2", "--agent", "fence_ipmilan", "--parameter", "ip=192.0.2.99", "--test")
    assert (ran.code, "did not answer" in ran.out) == (1, True)


def test_other_secrets_come_from_files_too(zv: Zv, served: Served, password: Path) -> None:
    ran = zv("host", "fence-config", "host2", *IPMI, "--secret-file", f"snmp_priv_passwd={password}")
    assert ran.code == 0, ran.err
    assert served.backend.fences["host2"].secrets == {"snmp_priv_passwd": "s3cret = more"}


@pytest.mark.parametrize("name", ["password", "passwd", "community", "api_key", "token"])
def test_a_secret_on_the_command_line_is_refused_without_an_echo(zv: Zv, name: str) -> None:
    ran = zv("host", "fence-config", "host2", *IPMI, "--parameter", f"{name}=s3cret")
    assert (ran.code, "--password-file" in ran.err, "s3cret" in ran.err) == (2, True, False)


def test_what_does_not_go_together_is_refused(zv: Zv, password: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    for words in (
        ("--remove", "--test"),
        ("--remove", *IPMI),
        ("--parameter", "ip=192.0.2.13"),
        ("--password-file", str(password)),
        (*IPMI, "--parameter", "ip=192.0.2.14"),
        (*IPMI, "--parameter", "plug"),
        (*IPMI, "--password-file", str(empty)),
        (*IPMI, "--password-file", str(tmp_path / "nothing")),
    ):
        assert zv("host", "fence-config", "host2", *words).code == 2, words
