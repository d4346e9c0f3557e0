"""zugvogel.nearest: the endpoint that takes a connection comes first, and a dead one costs little"""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from zugvogel.nearest import nearest_first


@pytest.fixture
def open_url() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"https://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def refusing_url() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return f"https://127.0.0.1:{port}"


@pytest.fixture
def silent_url() -> Iterator[str]:
    """Takes no connection and refuses none: its queue is full."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        address = server.getsockname()
        with socket.create_connection(address), socket.socket() as second:
            second.setblocking(False)
            second.connect_ex(address)
            yield f"https://127.0.0.1:{address[1]}"


def test_the_first_that_answers_comes_first(open_url: str, refusing_url: str, silent_url: str) -> None:
    assert nearest_first([refusing_url, silent_url, open_url]) == [open_url, refusing_url, silent_url]
    assert nearest_first([open_url, refusing_url]) == [open_url, refusing_url]


def test_they_stay_as_they_are_where_none_answers(refusing_url: str) -> None:
    urls = [refusing_url, "https://no-such-name.invalid:1"]
    assert nearest_first(urls) == urls
    assert nearest_first([refusing_url]) == [refusing_url]
    assert nearest_first([]) == []
