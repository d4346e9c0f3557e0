"""`python -m zugvogel.console`: serves until its standard input ends, that is until its agent is gone."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import pwd
import socket
import ssl
import sys
import sysconfig
from collections import OrderedDict
from pathlib import Path

import uvicorn
from pydantic import ValidationError

from zugvogel.client.endpoints import trust
from zugvogel.client.transport import AsyncTransport
from zugvogel.console import i18n, rendering
from zugvogel.console.app import Console
from zugvogel.console.config import ConsoleConfig
from zugvogel.console.mirror import Mirror
from zugvogel.errors import Refused, ZugvogelError

log = logging.getLogger("zugvogel.console")

MAX_PEOPLE = 200
MAX_CONNECTIONS = 800
"""Below what a process may open at once; who comes later is told to come again."""
MAX_MESSAGE_BYTES = 2**20
"""Of a browser through a WebSocket."""
NICENESS = 5
"""Nobody's page is as urgent as the host's heartbeats."""


def main() -> int:
    logging.basicConfig(
        level=os.environ.get("ZUGVOGEL_LOG", "INFO").upper(), format="%(levelname)s console: %(message)s"
    )
    for name in ("httpx", "httpcore", "uvicorn", "websockets"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        config = ConsoleConfig.model_validate_json(sys.stdin.readline())
    except ValidationError as error:
        sys.stderr.write(f"the console is started by the agent, with its configuration as one line: {error}\n")
        return 2
    os.nice(NICENESS)
    try:
        asyncio.run(_serve(config))
    except OSError as error:
        sys.stderr.write(f"the console cannot listen on {config.address}:{config.port}: {error}\n")
        return 1
    except ZugvogelError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


async def _serve(config: ConsoleConfig) -> None:
    context = trust(config.ca_file or None)
    apis = Apis(config.api_urls, context)
    mirror = Mirror()
    own = AsyncTransport(config.api_urls, token=config.token, context=context)
    console = Console(config.host, mirror, apis.of, own, is_secure=config.is_secure, secret=_secret(config))
    server = uvicorn.Server(_uvicorn(config, console))
    listener = _listen(config)
    _give_up_rights(config.user)
    work = [
        asyncio.create_task(server.serve(sockets=[listener])),
        asyncio.create_task(mirror.follow(own)),
        asyncio.create_task(_agent_gone()),
    ]
    await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    await work[0]
    for task in work:
        task.cancel()


class Apis:
    """The API as each person reaches it; connections are kept for those who came last."""

    def __init__(self, urls: list[str], context: ssl.SSLContext) -> None:
        self._urls = urls
        self._context = context
        self._kept: OrderedDict[str, AsyncTransport] = OrderedDict()

    def of(self, token: str) -> AsyncTransport:
        found = self._kept.pop(token, None) or AsyncTransport(self._urls, token=token, context=self._context)
        self._kept[token] = found
        if len(self._kept) > MAX_PEOPLE:
            self._kept.popitem(last=False)
        return found


def _uvicorn(config: ConsoleConfig, console: Console) -> uvicorn.Config:
    made = uvicorn.Config(
        console.app(),
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=1,
        ws="websockets-sansio",
        ws_max_size=MAX_MESSAGE_BYTES,
    )
    made.load()
    if config.is_secure:
        made.ssl = _tls(config)
    return made


def _secret(config: ConsoleConfig) -> str:
    """The same after each start, so that pages that were open go on: of the host's key, else of the token."""
    known = Path(config.key).read_bytes() if config.is_secure else config.token.encode()
    return hashlib.sha256(b"zugvogel console forms " + known).hexdigest()


def _tls(config: ConsoleConfig) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(config.certificate, config.key)
    return context


def _listen(config: ConsoleConfig) -> socket.socket:
    family = socket.AF_INET6 if ":" in config.address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((config.address, config.port))
    listener.listen(128)
    listener.setblocking(False)
    return listener


def _give_up_rights(user: str) -> None:
    """What browsers talk to needs none of root's, once it listens and has read its key. It keeps them where `user`
    cannot read the program itself (a checkout in somebody's home) or what it imports later."""
    if not user or os.getuid() != 0:
        return
    for code in i18n.LANGUAGES:
        rendering.environment(i18n.language(code))
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        raise Refused(f"there is no user {user} whose rights the console could take", "make one") from None
    for place in (str(Path(__file__).parent), *(sysconfig.get_path(name) for name in ("purelib", "stdlib"))):
        if not _is_open(Path(place)):
            log.warning("the console keeps root's rights: %s cannot read %s", user, place)
            return
    os.setgroups([])
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)


def _is_open(place: Path) -> bool:
    """To everybody, with all that is in it."""
    return all(folder.stat().st_mode & 0o001 for folder in (place, *place.parents))


async def _agent_gone() -> None:
    """Its end of the pipe closes when it ends, however it ends."""
    loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


if __name__ == "__main__":
    sys.exit(main())
