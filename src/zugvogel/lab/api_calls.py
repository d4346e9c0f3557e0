"""The lab's own calls of the product's API, made from the client's place on the network."""

from __future__ import annotations

import ssl
import time
from collections.abc import Sequence
from typing import Any

from zugvogel import errors
from zugvogel.http import httpx
from zugvogel.lab.layout import CLIENT, Layout
from zugvogel.lab.namespaces import in_netns
from zugvogel.nearest import nearest_first

API_PORT = 7440


def urls(layout: Layout) -> list[str]:
    return [f"https://{host.address}:{API_PORT}" for host in layout.load().hosts]


def call(
    layout: Layout,
    method: str,
    path: str,
    body: dict[str, Any] | None = None,
    *,
    timeout_s: float = 10.0,
    only: Sequence[str] = (),
) -> Any:
    """The answer's JSON from the first host that answers (of `only`, URLs, when given).
    Raises what the API answered, or Unreachable when no host did."""
    try:
        token = layout.token_file.read_text().strip()
        trust = ssl.create_default_context(cafile=str(layout.ca_file))
    except FileNotFoundError:
        raise errors.Refused("this lab has no cluster", "run `zv lab up` without --no-cluster") from None

    def ask() -> Any:
        last = ""
        for url in nearest_first(only or urls(layout)):
            try:
                with httpx.Client(
                    base_url=url, verify=trust, timeout=timeout_s, trust_env=False,
                    headers={"Authorization": f"Bearer {token}"},
                ) as client:  # fmt: skip
                    return _answer(client.request(method, f"/api/v1{path}", json=body))
            except httpx.TransportError as error:
                last = f"{url}: {str(error) or type(error).__name__}"
                if method != "GET" and not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
                    raise errors.Unreachable(f"no answer from {last}: it may have been done or not") from None
        raise errors.Unreachable(f"no host's API answers ({last})", "run `zv lab status`")

    return in_netns(layout.netns_path(CLIENT), ask)


def _answer(response: httpx.Response) -> Any:
    if response.is_success:
        return response.json() if response.content else None
    try:
        error = response.json()["error"]
        raise errors.from_code(error["code"], error["cause"], error.get("next_step", ""))
    except (ValueError, KeyError, TypeError):
        raise errors.ProcedureFailed(
            f"{response.request.url} answered {response.status_code}: {response.text[:200]}"
        ) from None


def wait_for_task(layout: Layout, task: dict[str, Any], *, seconds: float) -> dict[str, Any]:
    """The finished task. Raises ProcedureFailed when it failed or takes longer."""
    deadline = time.monotonic() + seconds
    while task["state"] in ("pending", "running"):
        if time.monotonic() > deadline:
            raise errors.ProcedureFailed(f"task {task['id']} takes longer than {seconds:.0f} s")
        task = call(layout, "GET", f"/tasks/{task['id']}?since={task.get('version', -1)}&wait_s=5", timeout_s=15)
    return task


def vm_address(layout: Layout, vm: str) -> str:
    """First address of a vm. Raises Refused when it has none yet."""
    view = call(layout, "GET", f"/vms/{vm}")
    if not view["addresses"]:
        raise errors.Refused(f"{vm} has no address yet", f"see `zv vm show {vm}`, or name an address")
    return str(view["addresses"][0])
