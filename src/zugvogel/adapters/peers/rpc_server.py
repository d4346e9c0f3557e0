"""The HTTPS servers of an agent: the RPC app and how any ASGI app is served.

Who calls is settled by TLS before a byte of the request is read: the RPC server takes certificates of the
cluster CA only. Whether that host may is asked at every request, since a host that was removed from the cluster
still has its certificate, and maybe a connection. The app is as small as it can be: a call costs well below 3 ms.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import uvicorn

from zugvogel.errors import Forbidden, InvalidInput, NotFound, Unreachable, ZugvogelError
from zugvogel.ports.peers import Handler

log = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
AsgiApp = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]

Admit = Callable[[str, str], None]
"""(caller's host name, command); raises Forbidden where that host may not call it."""

MAX_BODY_BYTES = 8 * 1024**2
KEPT_S = 300
_PREFIX = "/rpc/"
_CALLER = "zugvogel.caller"


def rpc_app(handlers: Mapping[str, Handler], admit: Admit) -> AsgiApp:
    """``POST /rpc/<command>``. `handlers` is read at each call, so commands may be added later. `admit` is asked
    at each call, before the request's body is read."""

    async def app(
        scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        if scope["type"] != "http":
            return
        status, body = 200, {}
        try:
            command = _command(scope)
            admit(_caller(scope), command)
            handler, payload = _find(handlers, command, scope), await _read(receive)
            body = await handler(payload)
            encoded = json.dumps(body, separators=(",", ":")).encode()
        except ZugvogelError as error:
            status, encoded = error.http_status, _error(error)
        except Exception as error:
            log.exception("rpc %s failed", scope["path"])
            cause = f"{scope['path'].removeprefix(_PREFIX)} failed on the peer: {type(error).__name__}: {error}"
            status, encoded = 500, _error(ZugvogelError(cause, "see the peer's agent log"))
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(encoded)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": encoded})

    return app


def _command(scope: Message) -> str:
    path = str(scope["path"])
    if scope["method"] != "POST" or not path.startswith(_PREFIX):
        raise _unknown(scope)
    return path.removeprefix(_PREFIX)


def _find(handlers: Mapping[str, Handler], command: str, scope: Message) -> Handler:
    handler = handlers.get(command)
    if handler is None:
        raise _unknown(scope)
    return handler


def _unknown(scope: Message) -> NotFound:
    return NotFound(
        f"there is no RPC command {scope['method']} {scope['path']}",
        "check that the same version of the agent runs on all hosts",
    )


def _caller(scope: Message) -> str:
    name = scope.get("state", {}).get(_CALLER, "")
    if not name:
        raise Forbidden("the caller's certificate names no host", "RPC is for agents; users have the API")
    return str(name)


async def _read(receive: Callable[[], Awaitable[Message]]) -> dict[str, Any]:
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise Unreachable("the caller hung up before its request was complete")
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise InvalidInput(f"the request is larger than {MAX_BODY_BYTES} bytes")
        if not message.get("more_body"):
            break
    try:
        payload = json.loads(body or b"{}")
    except ValueError as error:
        raise InvalidInput(f"the request is no JSON: {error}") from error
    if not isinstance(payload, dict):
        raise InvalidInput("the request is no JSON object")
    return payload


def _error(error: ZugvogelError) -> bytes:
    return json.dumps({"error": {"code": error.code, "cause": error.cause, "next_step": error.next_step}}).encode()


def _knowing_callers(protocol: type[asyncio.Protocol]) -> type[asyncio.Protocol]:
    """uvicorn's HTTP protocol, which by itself keeps the client's certificate from the app: the certificate's
    common name goes into the state of each request of the connection."""

    class Protocol(protocol):  # type: ignore[valid-type,misc]
        app_state: dict[str, Any]

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.app_state = {**self.app_state, _CALLER: _common_name(transport)}

    return Protocol


def _common_name(transport: asyncio.BaseTransport) -> str:
    """Of the client's certificate, which TLS has verified; empty where it showed none."""
    certificate = transport.get_extra_info("peercert") or {}
    names = [value for part in certificate.get("subject", ()) for kind, value in part if kind == "commonName"]
    return str(names[0]) if len(names) == 1 else ""


class RunningServer:
    """A listening server; `port` is the real one where 0 was asked for."""

    def __init__(self, server: uvicorn.Server, listener: socket.socket) -> None:
        self._server = server
        self._listener = listener
        self.port: int = listener.getsockname()[1]

    async def stop(self) -> None:
        """Stop listening, let requests under way finish (2 s), close all connections."""
        await self._server.shutdown(sockets=[self._listener])


async def serve(app: Any, address: str, port: int, ssl_context: ssl.SSLContext | None) -> RunningServer:
    """Serve `app` from the running loop; returns once it listens. `address` "" listens on all.

    uvicorn's own `serve()` is not used: it takes over signals and wakes up ten times a second for the date
    header and request limits, neither of which is wanted here. Raises `ZugvogelError` when the address or
    port cannot be had.
    """
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        date_header=False,
        server_header=False,
        timeout_keep_alive=KEPT_S,
        timeout_graceful_shutdown=2,
        loop="asyncio",
        ws="websockets-sansio",
    )
    config.load()
    config.ssl = ssl_context
    config.http_protocol_class = _knowing_callers(config.http_protocol_class)
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    listener = _listen(address, port)
    try:
        await server.startup(sockets=[listener])
    except BaseException:
        with contextlib.suppress(OSError):
            listener.close()
        raise
    return RunningServer(server, listener)


def _listen(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    # The protocol must be named: asyncio sets TCP_NODELAY only on sockets that say they are TCP, and without
    # it every answer on a kept connection waits 40 ms for a delayed acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
    except OSError as error:
        listener.close()
        raise ZugvogelError(
            f"cannot listen on {address or 'any address'} port {port}: {error.strerror}",
            "see what uses the port, or change it in agent.toml",
        ) from error
    listener.setblocking(False)
    return listener


def server_context(certificate: str, key: str, ca: str = "", *, is_mutual: bool) -> ssl.SSLContext:
    """TLS 1.3 only. `is_mutual`: callers must show a certificate of `ca`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(certificate, key)
    if is_mutual:
        context.load_verify_locations(ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(certificate: str, key: str, ca: str) -> ssl.SSLContext:
    """Shows this host's certificate; trusts `ca` and nobody else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(ca)
    return context
