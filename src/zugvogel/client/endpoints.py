"""What both transports share: which endpoint comes next, what may be sent again, what an answer means.

Another endpoint is tried when no connection came about, and for reads also when it broke: nothing that
changes something is ever sent twice.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from zugvogel import errors
from zugvogel.http import httpx

PREFIX = "/api/v1"
CONNECT_S = 3.0
ANSWER_S = 30.0
KEEP_S = 2.0
"""An idle connection is not used again after so long: the agent closes it after five seconds, and a change that
meets the closing would have an unknown end."""
QUIET_S = 35.0
"""A stream of events is given up after so long without a byte; the agent sends a comment every 10 s."""
LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=20, keepalive_expiry=KEEP_S)
STREAM = httpx.Timeout(QUIET_S, connect=CONNECT_S)
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class Endpoints:
    """Addresses of one cluster; the one that answered last comes first. `name` is only said in errors."""

    def __init__(self, urls: Iterable[str], name: str) -> None:
        """Raises InvalidInput where there is no address, or one that cannot be meant."""
        self.urls = [url.rstrip("/") for url in urls]
        self.name = name
        if not self.urls:
            raise errors.InvalidInput(f"{name} has no address", "agents answer at https://HOST:7440")
        for url in self.urls:
            if not url.startswith(("https://", "http://")):
                raise errors.InvalidInput(f"{url} is no https:// address", "agents answer at https://HOST:7440")

    def answered(self, url: str) -> None:
        self.urls.remove(url)
        self.urls.insert(0, url)


class Round:
    """One request on its way through the endpoints."""

    def __init__(self, endpoints: Endpoints, method: str) -> None:
        self.urls = list(endpoints.urls)
        self._endpoints = endpoints
        self._is_read = method == "GET"
        self._told: list[str] = []

    def missed(self, url: str, error: httpx.TransportError) -> None:
        """Returns where the next endpoint may be tried. Raises Unreachable where that could do it twice."""
        self._told.append(f"{url}: {plain(error)}")
        if not self._is_read and not isinstance(error, _NOT_SENT):
            raise errors.Unreachable(
                f"{url} did not answer ({plain(error)}); the request may have been carried out",
                "look with `zv task list` before you repeat it",
            ) from None

    def answered(self, url: str) -> None:
        self._endpoints.answered(url)

    def nobody(self) -> errors.Unreachable:
        return errors.Unreachable(
            f"no host of {self._endpoints.name} answers ({'; '.join(self._told)})", "are the agents up?"
        )


def trust(ca_file: str | None) -> ssl.SSLContext:
    """The CA in `ca_file` and no other; without a file those of the system. Raises Refused."""
    try:
        return ssl.create_default_context(cafile=ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise errors.Refused(f"CA file {ca_file} cannot be used: {error}", "see `zv context show`") from None


def headers_of(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


def given(params: Mapping[str, Any] | None) -> dict[str, Any]:
    """Without those that are None."""
    return {key: value for key, value in (params or {}).items() if value is not None}


def patience(params: Mapping[str, Any], answer_s: float, connect_s: float) -> httpx.Timeout:
    """A read that waits for a change (`wait_s`) may take so much longer."""
    return httpx.Timeout(answer_s + float(params.get("wait_s", 0)), connect=connect_s)


def plain(error: httpx.TransportError) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    return str(error) or type(error).__name__


def error_in(text: str, status: int) -> errors.ZugvogelError:
    """The error an answer carries, as its class."""
    try:
        error = json.loads(text)["error"]
        return errors.from_code(str(error["code"]), str(error["cause"]), str(error.get("next_step", "")))
    except (ValueError, KeyError, TypeError, AttributeError):
        return errors.ZugvogelError(f"the agent answered {status} without a reason: {text[:200]!r}")


def answer_in(response: httpx.Response, also: Container[int] = ()) -> Any:
    """Parsed JSON, a text, or None where the answer is empty. Raises the error it carries, unless its status is of
    `also`."""
    if not response.is_success and response.status_code not in also:
        raise error_in(response.text, response.status_code)
    if response.headers.get("content-type", "").startswith("text/"):
        return response.text
    try:
        return response.json() if response.content else None
    except ValueError:
        raise errors.ZugvogelError(
            f"{response.url} answered something else than JSON", "is it the address of an agent?"
        ) from None


@contextmanager
def streaming(url: str) -> Iterator[None]:
    """What breaks a stream that runs leaves the block as Unreachable."""
    try:
        yield
    except httpx.TransportError as error:
        raise errors.Unreachable(f"{url} ended the stream ({plain(error)})", "connect again") from None
