"""The agent's systemd unit, and the command that makes QEMU's user."""

from __future__ import annotations

import grp
from collections.abc import Sequence

from zugvogel.adapters.unix_user import DEFAULT_USER

_UNIT = """\
[Unit]
Description=Zugvogel agent
After=network-online.target remote-fs.target time-sync.target
Wants=network-online.target
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart={command} agent run
Restart=always
RestartSec=1
# QEMU processes outlive the agent; the restarted agent adopts them.
KillMode=process
Delegate=yes
RuntimeDirectory=zugvogel
RuntimeDirectoryPreserve=yes
LimitNOFILE=65536
LimitMEMLOCK=infinity
LimitCORE=0
TasksMax=infinity
# A QEMU that the kernel kills for memory must not take the others with it.
OOMPolicy=continue

[Install]
WantedBy=multi-user.target
"""


def unit_text(command: Sequence[str]) -> str:
    """`command`: how the command line is started, without arguments. Words must not need quoting."""
    return _UNIT.format(command=" ".join(word.replace("%", "%%") for word in command))


def user_command(uid: int = 0) -> list[str]:
    """useradd(8) for QEMU's user; `uid` 0: the next free system one. In group kvm where there is one."""
    command = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
    command += ["--shell", "/usr/sbin/nologin"]
    if uid:
        command += ["--uid", str(uid)]
    if any(group.gr_name == "kvm" for group in grp.getgrall()):
        command += ["--groups", "kvm"]
    return [*command, DEFAULT_USER]
