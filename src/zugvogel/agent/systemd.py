"""The agent's systemd unit."""

from __future__ import annotations

from collections.abc import Sequence

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
