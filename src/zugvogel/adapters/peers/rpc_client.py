"""RPC to other agents: JSON over HTTP/1.1 on kept connections with mutual TLS."""

from __future__ import annotations

import json
import socket
import ssl
from typing import Any

from zugvogel.domain.host import Host
from zugvogel.errors import DeadlineExceeded, Unreachable, ZugvogelError, from_code
from zugvogel.http import httpx

CONNECT_TIMEOUT_S = 3.0
KEPT_S = 240.0
"""Below the server's 300 s, so that the client lets go first."""
CONNECTIONS = 256
_SOCKET_OPTIONS = [
    # A peer whose power was cut leaves a connection that looks alive; found out within about 11 s, so that
    # the first call after its return does not run into it.
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
]


class HttpPeers:
    """`zugvogel.ports.peers.Peers`. `ssl_context` carries this host's certificate and trusts the cluster CA
    only; the peer must show a certificate for its own *name* (DNS entry of the host name), whatever address
    it is reached at."""

    def __init__(self, host_name: str, ssl_context: ssl.SSLContext) -> None:
        limits = httpx.Limits(
            max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS, keepalive_expiry=KEPT_S
        )
        transport = httpx.AsyncHTTPTransport(
            verify=ssl_context, trust_env=False, limits=limits, socket_options=_SOCKET_OPTIONS
        )
        self._client = httpx.AsyncClient(
            transport=transport,
            trust_env=False,
            headers={"user-agent": f"zugvogel/{host_name}", "content-type": "application/json"},
        )

    async def call(
        self, host: Host, command: str, payload: dict[str, Any], *, timeout_s: float = 10.0
    ) -> dict[str, Any]:
        """Raises what the peer raised; `Unreachable` where no connection was made or it broke;
        `DeadlineExceeded` where the peer took the request and gave no answer within `timeout_s`."""
        request = self._client.build_request(
            "POST",
            f"https://{_bracketed(host.address)}:{host.ports.rpc}/rpc/{command}",
            content=json.dumps(payload, separators=(",", ":")),
            timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S)),
            extensions={"sni_hostname": host.name},
        )
        next_step = f"check that the agent on {host.name} runs and that its network is up"
        try:
            response = await self._client.send(request)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            cause = str(error) or "no answer to the connection"
            raise Unreachable(f"{host.name} cannot be reached at {host.address}: {cause}", next_step) from error
        except httpx.TimeoutException as error:
            raise DeadlineExceeded(
                f"{host.name} gave no answer to {command} in {timeout_s:g} s", next_step
            ) from error
        except httpx.TransportError as error:
            cause = str(error) or type(error).__name__
            raise Unreachable(
                f"the connection to {host.name} broke during {command}: {cause}", next_step
            ) from error
        return _answer(host.name, command, response)

    async def close(self) -> None:
        await self._client.aclose()


def _answer(host: str, command: str, response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
        if response.status_code == httpx.codes.OK and isinstance(body, dict):
            return body
        error = body["error"]
        raise from_code(error["code"], error["cause"], error["next_step"])
    except (ValueError, KeyError, TypeError) as error:
        raise ZugvogelError(
            f"{host} answered {command} with something that is no RPC answer (HTTP {response.status_code})",
            "check that the same version of the agent runs on all hosts",
        ) from error


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
