"""Zugvogel from Python: `Client`, `AsyncClient`, and below them the raw `Transport`, `AsyncTransport`.

    from zugvogel.client import Client

    with Client(["https://h1:7440", "https://h2:7440"], token="...", ca_file="ca.pem") as cluster:
        for vm in cluster.vms():
            print(vm.name, vm.state, vm.host)

Nothing is imported before it is asked for: a command line that only needs a transport starts without the models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zugvogel.client._async.client import AsyncClient
    from zugvogel.client._sync.client import Client
    from zugvogel.client.blocking import Transport
    from zugvogel.client.transport import AsyncTransport
    from zugvogel.client.watching import Change, Message, Picture, Ready, Trouble

__all__ = [
    "AsyncClient",
    "AsyncTransport",
    "Change",
    "Client",
    "Message",
    "Picture",
    "Ready",
    "Transport",
    "Trouble",
]

_HOMES = {
    "AsyncClient": "_async.client",
    "AsyncTransport": "transport",
    "Client": "_sync.client",
    "Transport": "blocking",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'watching')}"), name)
