"""What is known of this boot: files in the agent's directory under /run, which is empty after each."""

from __future__ import annotations

import logging
import uuid
from pathlib import Path

log = logging.getLogger(__name__)


class RunBoot:
    def __init__(self, run_dir: Path) -> None:
        run_dir.mkdir(parents=True, exist_ok=True)
        path, self._mark = run_dir / "boot-id", run_dir / "has-beaten"
        if not path.exists():
            path.write_text(str(uuid.uuid4()))
        self.id = path.read_text().strip()

    def has_beaten(self) -> bool:
        return self._mark.exists()

    def beaten(self) -> None:
        try:
            self._mark.touch()
        except OSError as error:  # the next agent is silent for a moment: no more than that
            log.warning("not noted that this boot has beaten: %s", error)
