from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests.cli.conftest import Served, Zv
from zugvogel.cli import context as contexts
from zugvogel.errors import InvalidInput, Refused


def test_the_file_is_for_its_user_only(zv: Zv) -> None:
    assert stat.S_IMODE(contexts.path().stat().st_mode) == 0o600


def test_use_and_remove(zv: Zv, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    zv("context", "add", "viewer", "--url", served.url, "--token", "viewer-token", "--ca", str(served.ca_file))
    refused = zv("vm", "kill", "web1")
    assert refused.code == 1
    assert "role operator, yours is viewer" in refused.err
    assert zv("--context", "test", "vm", "kill", "web1").code == 0
    assert zv("context", "use", "test").code == 0
    assert zv("vm", "kill", "web1").code == 0
    monkeypatch.setenv(contexts.CONTEXT_VARIABLE, "viewer")
    assert zv("vm", "kill", "web1").code == 1
    assert zv("context", "remove", "viewer").code == 0
    assert zv("vm", "list").code == 1


def test_tokens_are_never_shown(zv: Zv) -> None:
    assert "admin-token" not in zv("context", "show", "--json").out + zv("context", "list", "--json").out


def test_a_certificate_of_another_ca_is_not_accepted(bare_zv: Zv, served: Served, tmp_path: Path) -> None:
    from tests.cli.conftest import _certificate

    other, _ = _certificate(tmp_path)
    bare_zv("context", "add", "x", "--url", served.url, "--token", "admin-token", "--ca", str(other))
    ran = bare_zv("vm", "list")
    assert ran.code == 1
    assert "certificate" in ran.err.lower()


def test_no_plain_http(bare_zv: Zv, served: Served) -> None:
    ran = bare_zv("context", "add", "x", "--url", "http://a:1", "--token", "t", "--ca", str(served.ca_file))
    assert ran.code == 2


def test_a_missing_namespace_is_told() -> None:
    with pytest.raises(Refused, match="cannot be entered"):
        contexts.enter_netns("zv-no-such-namespace")
    with pytest.raises(InvalidInput):
        contexts.enter_netns("../x")
