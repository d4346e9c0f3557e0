"""Opening a WebSocket of the API. Imported when one is wanted, since few who use the client do."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidStatus

from zugvogel import errors
from zugvogel.client.endpoints import PREFIX, error_in


async def first_socket(
    urls: Sequence[str],
    path: str,
    *,
    trust: ssl.SSLContext,
    headers: Mapping[str, str],
    open_s: float,
    what: str = "connection",
) -> ClientConnection:
    """An open WebSocket of bytes, of the first of `urls` that takes one; close it. Raises what an agent answers,
    as its class, and Unreachable, which says `what` did not come about."""
    told = []
    for url in urls:
        try:
            return await connect(
                f"ws{url.removeprefix('http')}{PREFIX}{path}",
                ssl=trust if url.startswith("https:") else None,
                additional_headers=headers,
                open_timeout=open_s,
                compression=None,
                proxy=None,
                max_size=None,
            )
        except InvalidStatus as refusal:
            body = bytes(refusal.response.body or b"").decode(errors="replace")
            raise error_in(body, refusal.response.status_code) from None
        except (OSError, InvalidHandshake, TimeoutError) as error:
            told.append(f"{url}: {error or type(error).__name__}")
    raise errors.Unreachable(f"no {what} came about ({'; '.join(told)})", "are the agents up?")
