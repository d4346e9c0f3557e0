from __future__ import annotations

import io
import subprocess
import sys

import pytest

from tests.cli.conftest import Zv


def test_no_context_is_one_line_with_a_next_step(bare_zv: Zv) -> None:
    ran = bare_zv("vm", "list")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "zv: no cluster is known here; add one with `zv context add`, or try `zv lab up`\n"


def test_wrong_usage_is_exit_2(bare_zv: Zv) -> None:
    assert bare_zv("vm", "start").code == 2
    assert bare_zv("vm", "fly", "web1").code == 2


def test_bad_size_is_exit_2(zv: Zv) -> None:
    ran = zv("vm", "create", "x", "--memory", "lots")
    assert ran.code == 2
    assert "'lots' is no size" in ran.err


def test_host_list_json_has_the_fixed_fields(zv: Zv) -> None:
    ran = zv("host", "list", "--json")
    assert ran.code == 0, ran.err
    assert ran.json[0]["name"] == "host1"
    assert ran.json[0]["role"] == "primary"
    assert ran.json[0]["verdict"] == "live"
    assert ran.json[0]["address"] == "192.0.2.11"


@pytest.mark.parametrize(
    "line",
    [
        "host list", "host show host1", "host show host2", "vm list", "vm show web1", "vm log web1",
        "cluster show", "cluster baseline",
        "datastore list", "network list", "task list", "event list", "settings list",
        "settings get migration.tls", "token list", "context list", "context show",
    ],
)  # fmt: skip
def test_every_look_works_as_table_and_as_json(zv: Zv, line: str) -> None:
    table = zv(*line.split())
    assert table.code == 0, table.err
    ran = zv(*line.split(), "--json")
    assert ran.code == 0, ran.err
    assert ran.json is not None
    assert ran.err == ""


def test_tasks_of_one_subject(zv: Zv) -> None:
    for name in ("web1", "web2"):
        assert zv("vm", "create", f"{name}-tasks", "--memory", "64M", "--json").code == 0
    found = zv("task", "list", "--subject", "web2-tasks", "--json").json
    assert [t["subject"] for t in found] == ["web2-tasks"]


def test_life_of_a_vm(zv: Zv) -> None:
    made = zv(
        "vm", "create", "db1", "--memory", "512MiB", "--cpus", "2", "--disk", "2G", "--disk", "1G,raw", "--json"
    )
    assert made.code == 0, made.err
    assert made.json["kind"] == "vm.create"
    for line in ("vm start db1 --on host1", "vm reset db1", "vm stop db1 --timeout 5", "vm kill db1"):
        ran = zv(*line.split())
        assert ran.code == 0, ran.err
    assert zv("vm", "set", "db1", "--memory", "1G", "--json").json["memory_bytes"] == 2**30
    assert zv("vm", "unregister", "db1").code == 0
    assert zv("vm", "register", "db1", "--datastore", "shared").code == 0
    assert zv("vm", "delete", "db1", "--yes").out == "db1 and its disks are deleted\n"
    gone = zv("vm", "show", "db1")
    assert (gone.code, gone.err) == (1, "zv: there is no vm db1; see `zv vm list`\n")


def test_sizes_reach_the_api_as_bytes(zv: Zv, served: object) -> None:
    from tests.cli.conftest import Served

    assert isinstance(served, Served)
    assert zv("vm", "create", "s1", "--memory", "1G", "--disk", "2G", "--network", "lan").code == 0
    asked = served.backend.created[-1]
    assert asked.memory_bytes == 2**30
    assert asked.disks[0].size_bytes == 2**31
    assert asked.networks == ("lan",)


def test_a_failed_task_is_exit_1_with_its_cause(zv: Zv) -> None:
    ran = zv("vm", "start", "web1", "--on", "full")
    assert (ran.code, ran.err) == (1, "zv: full has no memory left; choose another host\n")


def test_migrate_json_is_the_report(zv: Zv) -> None:
    ran = zv("vm", "migrate", "web1", "--to", "host2", "--json")
    assert ran.code == 0, ran.err
    fixed = ("mode", "source", "target", "total_s", "downtime_ms", "transferred_bytes", "rounds", "phases")
    assert [k for k in fixed if k not in ran.json] == []
    assert ran.json["downtime_ms"] == 31.0
    assert len(ran.json["rounds"]) == 3


def test_migrate_shows_the_picture(zv: Zv) -> None:
    ran = zv("vm", "migrate", "web1", "--mode", "live")
    assert "web1 moved from host1 to host2 in 2.50 s, downtime 31 ms" in ran.out
    assert "blackout" in ran.out


def test_refused_migration(zv: Zv) -> None:
    ran = zv("vm", "migrate", "web1", "--to", "host3")
    assert (ran.code, ran.err) == (1, "zv: web1 needs cpu flag avx2 that host3 lacks; choose host2\n")
    dry = zv("vm", "migrate", "web1", "--to", "host3", "--dry-run")
    assert dry.code == 1
    assert "avx2" in dry.out
    assert zv("vm", "migrate", "web1", "--dry-run", "--json").json["target"] == "host2"


def test_tasks_can_be_shown_and_watched(zv: Zv) -> None:
    zv("vm", "migrate", "web1", "--json")
    task = zv("task", "list", "--json").json[-1]
    assert "blackout" in zv("task", "show", task["id"]).out
    assert zv("task", "watch", task["id"], "--json").json["state"] == "done"
    refused = zv("task", "cancel", task["id"])
    assert refused.code == 1
    assert "is done already" in refused.err


def test_administration(zv: Zv) -> None:
    for line in (
        "datastore add d2 /srv/d2", "network add n2 --bridge br1 --vlan 7 --host host1", "network remove n2",
        "datastore remove shared --yes", "settings set migration.tls off", "settings set migration.channels 2",
        "token create --access viewer", "token revoke t2", "token join", "cluster baseline --set auto",
        "host remove host2 --yes",
    ):  # fmt: skip
        ran = zv(*line.split())
        assert ran.code == 0, f"{line}: {ran.err}"
    assert zv("settings", "get", "migration.tls").out == "off\n"
    assert zv("settings", "set", "migration.channels", "many").code == 2
    refused = zv("cluster", "baseline", "--set", "x86-64-v3")
    assert (refused.code, refused.err) == (1, "zv: host2 lacks avx2, which x86-64-v3 needs; choose x86-64-v2\n")


def test_console_talks_over_the_websocket(zv: Zv) -> None:
    command = [sys.executable, "-m", "zugvogel.cli.main", "vm", "console", "web1"]
    done = subprocess.run(command, input=b"hello\n", capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (0, b"HELLO\n"), done.stderr
    assert b"console of web1 on host1" in done.stderr


def test_console_of_an_unknown_vm_is_refused(zv: Zv) -> None:
    assert zv("vm", "console", "nobody").err == "zv: there is no vm nobody; see `zv vm list`\n"


def test_agent_unit_can_be_printed(bare_zv: Zv) -> None:
    unit = bare_zv("agent", "install", "--print").out
    assert "KillMode=process" in unit
    assert "Restart=always" in unit


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['zv', '--help']\n"
        "from zugvogel.cli.main import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print(sorted({'httpx', 'pydantic', 'fastapi', 'websockets', 'cryptography'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_every_command_has_help_with_an_example(bare_zv: Zv) -> None:
    from zugvogel.cli.main import GROUPS

    for group, app in GROUPS:
        for command in app.registered_commands:
            assert command.epilog, f"{group} {command.name}"
            assert command.epilog.startswith("Example")


def test_a_failed_host_is_confirmed_dead(zv: Zv) -> None:
    failed = next(h["name"] for h in zv("host", "list", "--json").json if h["verdict"] == "failed")
    ran = zv("host", "confirm-dead", failed, "--yes", "--json")
    assert ran.code == 0, ran.err
    assert ran.json == {"released": ["web2"], "left": {"web3": "host1 may run it"}}
    assert "web3: host1 may run it" in zv("host", "confirm-dead", failed, "--yes").out
    live = zv("host", "confirm-dead", "host1", "--yes")
    assert (live.code, "host1 is live" in live.err) == (1, True)


def test_confirming_a_death_asks_first(zv: Zv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    ran = zv("host", "confirm-dead", "host2")
    assert ran.code == 1
    assert "Is the power of host2 off" in ran.err
