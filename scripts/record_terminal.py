"""Run a command and keep what a terminal showed of it as an SVG: ``record_terminal.py FILE.svg -- COMMAND...``

The pictures in the docs are made by this, from the real thing. Progress that redraws itself is left out: the
command is told that nobody interacts with it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

WIDTH = 104


def main() -> int:
    if len(sys.argv) < 4 or sys.argv[2] != "--":
        print(__doc__, file=sys.stderr)
        return 2
    picture, command = Path(sys.argv[1]), sys.argv[3:]
    environment = {
        **os.environ,
        "FORCE_COLOR": "1",
        "TTY_INTERACTIVE": "0",
        "TERM": "xterm-256color",
        "COLUMNS": str(WIDTH),
    }
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    console = Console(record=True, width=WIDTH, force_terminal=True, color_system="truecolor", file=StringIO())
    console.print(Text.from_ansi(done.stdout.rstrip()))
    picture.parent.mkdir(parents=True, exist_ok=True)
    picture.write_text(console.export_svg(title=" ".join(command), theme=MONOKAI))
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
