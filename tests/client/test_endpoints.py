from __future__ import annotations

import pytest

from zugvogel import errors
from zugvogel.client.endpoints import Endpoints, Round, answer_in, error_in, headers_of, patience, streaming, trust
from zugvogel.http import httpx

A, B = "https://a:7440", "https://b:7440"


def answer(status: int, body: str, kind: str = "application/json") -> httpx.Response:
    return httpx.Response(
        status, text=body, headers={"content-type": kind}, request=httpx.Request("GET", f"{A}/api/v1/x")
    )


def test_the_one_that_answered_comes_first() -> None:
    endpoints = Endpoints([f"{A}/", B], "birds")
    assert endpoints.urls == [A, B]
    endpoints.answered(B)
    assert endpoints.urls == [B, A]


@pytest.mark.parametrize("urls", [[], ["a:7440"], [A, "ftp://b"]])
def test_addresses_that_cannot_be_meant(urls: list[str]) -> None:
    with pytest.raises(errors.InvalidInput):
        Endpoints(urls, "birds")


@pytest.mark.parametrize("error", [httpx.ConnectError("refused"), httpx.ConnectTimeout("")])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_what_was_not_sent_goes_to_the_next(error: httpx.TransportError, method: str) -> None:
    turn = Round(Endpoints([A, B], "birds"), method)
    turn.missed(A, error)
    assert "no host of birds answers (https://a:7440: " in str(turn.nobody())


BROKEN = [
    httpx.ReadTimeout(""),
    httpx.ReadError("reset"),
    httpx.RemoteProtocolError("gone"),
    httpx.WriteError("x"),
]


@pytest.mark.parametrize("error", BROKEN)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_change_that_may_have_arrived_is_not_sent_again(error: httpx.TransportError, method: str) -> None:
    with pytest.raises(errors.Unreachable, match="may have been carried out"):
        Round(Endpoints([A, B], "birds"), method).missed(A, error)


@pytest.mark.parametrize("error", BROKEN)
def test_a_read_is_sent_again(error: httpx.TransportError) -> None:
    Round(Endpoints([A, B], "birds"), "GET").missed(A, error)


def test_answers() -> None:
    assert answer_in(answer(200, '{"a": 1}')) == {"a": 1}
    assert answer_in(answer(200, "")) is None
    assert answer_in(answer(200, "PEM", "text/plain; charset=utf-8")) == "PEM"
    with pytest.raises(errors.ZugvogelError, match="something else than JSON"):
        answer_in(answer(200, "<html>", "application/octet-stream"))


def test_errors_come_as_their_class() -> None:
    body = '{"error": {"code": "not-found", "cause": "there is no vm x", "next_step": "look"}}'
    with pytest.raises(errors.NotFound) as caught:
        answer_in(answer(404, body))
    assert (caught.value.cause, caught.value.next_step) == ("there is no vm x", "look")


@pytest.mark.parametrize("body", ["", "<html>", "[]", '{"error": 3}', '{"error": {"code": "x"}}'])
def test_an_error_without_a_reason(body: str) -> None:
    assert "502" in str(error_in(body, 502))


def test_a_stream_that_breaks() -> None:
    with pytest.raises(errors.Unreachable), streaming(A):
        raise httpx.ReadTimeout("")


def test_patience_is_longer_for_a_long_poll() -> None:
    assert patience({"wait_s": 20}, 30, 3).read == 50
    assert patience({}, 30, 3).connect == 3


def test_a_token_is_a_bearer() -> None:
    assert headers_of("t.s") == {"Authorization": "Bearer t.s"}
    assert headers_of("") == {}


def test_a_ca_file_that_is_none(tmp_path: object) -> None:
    with pytest.raises(errors.Refused, match="CA file"):
        trust(f"{tmp_path}/none")
