"""httpx without its own command line, which it imports whenever click and rich are there: a tenth of a second at
every start of `zv`, and some megabytes in every agent. Import it from here."""

import sys

sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # an ImportError for whoever asks

import httpx  # noqa: E402

__all__ = ["httpx"]
