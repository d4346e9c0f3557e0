"""For the whole suite."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """A job in the background may begin with SIGINT ignored, which the programs that tests start would inherit:
    no Ctrl-C would reach them."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
