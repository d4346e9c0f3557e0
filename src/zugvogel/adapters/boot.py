"""What is known of this boot: files in the agent's directory under /run, which is empty after each."""

from __future__ import annotations

import logging
import uuid
from pathlib import Path

log = logging.getLogger(__name__)


class RunBoot:
    def __init__(self, run_dir: Path) -> None:
        run_dir.mkdir(parents=True, exist_ok=True)
        path, self._mark = run_dir / "boot-id", run_dir / "has-spoken"
        if not path.exists():
            path.write_text(str(uuid.uuid4()))
        self.id = path.read_text().strip()
        self.has_spoken = self._mark.exists()

    def speaks(self, does: bool) -> None:
        self.has_spoken = does
        try:
            if does:
                self._mark.touch()
            else:
                self._mark.unlink(missing_ok=True)
        except OSError as error:  # the next agent looks anew, or does not: no more than that
            log.warning("not noted whether this boot is heard: %s", error)
