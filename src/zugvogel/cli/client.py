"""The API as the CLI calls it: several endpoints, one pinned CA, errors as their own classes.

Another endpoint is tried when no connection came about, and for reads also when it broke: nothing that
changes something is ever sent twice.
"""

from __future__ import annotations

import ssl
from typing import Any

from zugvogel import errors
from zugvogel.cli.context import Context, enter_netns
from zugvogel.http import httpx
from zugvogel.nearest import nearest_first

CONNECT_S = 3.0
ANSWER_S = 30.0
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout)


class Api:
    def __init__(self, context: Context, *, answer_s: float = ANSWER_S, connect_s: float = CONNECT_S) -> None:
        """Enters the context's network namespace. Raises Refused when CA file or namespace are missing."""
        if not context.urls:
            raise errors.Refused(f"context {context.name} has no address", "add it again: `zv context add`")
        if context.netns:
            enter_netns(context.netns)
        self.context = context
        self.trust = _trust(context.ca_file)
        self.headers = {"Authorization": f"Bearer {context.token}"}
        self._answer_s = answer_s
        self._urls = nearest_first(context.urls)
        self._http = httpx.Client(
            verify=self.trust,
            headers=self.headers,
            trust_env=False,
            timeout=httpx.Timeout(answer_s, connect=connect_s),
        )

    @property
    def urls(self) -> list[str]:
        """The endpoint that answered last comes first."""
        return self._urls

    def get(self, path: str, **params: Any) -> Any:
        wait_s = float(params.get("wait_s", 0))
        return self._ask("GET", path, params={k: v for k, v in params.items() if v is not None}, wait_s=wait_s)

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        return self._ask("POST", path, body=body)

    def put(self, path: str, body: dict[str, Any]) -> Any:
        return self._ask("PUT", path, body=body)

    def patch(self, path: str, body: dict[str, Any]) -> Any:
        return self._ask("PATCH", path, body=body)

    def delete(self, path: str) -> Any:
        return self._ask("DELETE", path)

    def _ask(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, Any] | None = None,
        body: dict[str, Any] | None = None,
        wait_s: float = 0.0,
    ) -> Any:
        told: list[str] = []
        for url in list(self._urls):
            try:
                response = self._http.request(
                    method,
                    f"{url}/api/v1{path}",
                    params=params,
                    json=body,
                    timeout=httpx.Timeout(self._answer_s + wait_s, connect=CONNECT_S),
                )
            except httpx.TransportError as error:
                told.append(f"{url}: {_plain(error)}")
                if isinstance(error, _NOT_SENT) or method == "GET":
                    continue
                raise errors.Unreachable(
                    f"{url} did not answer ({_plain(error)}); the request may have been carried out",
                    "look with `zv task list` before you repeat it",
                ) from None
            self._urls.remove(url)
            self._urls.insert(0, url)
            return _answer(response)
        raise errors.Unreachable(
            f"no host of {self.context.name} answers ({'; '.join(told)})", "are the agents up?"
        )


def _trust(ca_file: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise errors.Refused(f"CA file {ca_file} cannot be used: {error}", "see `zv context show`") from None


def _plain(error: httpx.TransportError) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    return str(error) or type(error).__name__


def error_in(text: str, status: int) -> errors.ZugvogelError:
    """The error an answer carries, as its class."""
    import json

    try:
        error = json.loads(text)["error"]
        return errors.from_code(str(error["code"]), str(error["cause"]), str(error.get("next_step", "")))
    except (ValueError, KeyError, TypeError):
        return errors.ZugvogelError(f"the agent answered {status} without a reason: {text[:200]!r}")


def _answer(response: httpx.Response) -> Any:
    if not response.is_success:
        raise error_in(response.text, response.status_code)
    return response.json() if response.content else None
