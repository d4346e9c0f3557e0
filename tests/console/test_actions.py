"""Actions as `zugvogel.console.app` carries them out: who may, what the API is asked, what people are told."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.console.api_fields import HOSTILE, settings
from tests.console.conftest import Browser
from tests.console.fake_api import FakeApi, filled_mirror
from zugvogel.console.actions import Action, Call, Told
from zugvogel.console.i18n import language
from zugvogel.console.mirror import Mirror
from zugvogel.console.sessions import Person
from zugvogel.domain.cluster import Access
from zugvogel.errors import Conflict, Refused, SessionEnded, Unreachable

Browse = Callable[[Mirror], Browser]


class Performed:
    """An action at ``/hosts/{name}/greet``: what it was called with, what it answers."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.told = Told("done")

    async def perform(self, call: Call) -> Told:
        self.calls.append(call)
        return self.told


@pytest.fixture
def performed(monkeypatch: pytest.MonkeyPatch) -> Performed:
    made = Performed()
    action = Action("/hosts/{name}/greet", Access.OPERATOR, made.perform)
    monkeypatch.setattr("zugvogel.console.app.ACTIONS", (action,))
    return made


async def test_a_form_arrives_as_it_was_filled_in(browse: Browse, performed: Performed) -> None:
    browser = await browse(filled_mirror()).log_in("operator")
    body = {"text": "  two words ", "empty": "", "many": ["a", "b"], "password": " as typed "}
    headers = {"x-csrftoken": await browser.csrf(), "hx-request": "true"}
    await browser.http.post("/hosts/host1/greet", data=body, headers=headers)
    [call] = performed.calls
    assert call.path == {"name": "host1"}
    assert call.form["text"] == "two words"
    assert call.form["password"] == " as typed ", "spaces of passwords count"
    assert call.lists["many"] == ["a", "b"]
    assert call.person == Person("operator", Access.OPERATOR, "operator-token")
    assert call.given("text", "empty", "missing") == {"text": "two words"}


async def test_what_was_done_is_told_beside_the_page(browse: Browse, performed: Performed) -> None:
    performed.told = Told(HOSTILE, task="t1", secret="s3cret")
    answer = await (await browse(filled_mirror()).log_in("operator")).post("/hosts/host1/greet")
    assert answer.status_code == 200
    assert "<img" not in answer.text
    assert 'href="/tasks/t1"' in answer.text
    assert "s3cret" in answer.text
    assert "data-passes" not in answer.text, "what is shown once stays until it was read"
    assert answer.headers["cache-control"] == "no-store"
    assert "x-zugvogel-refused" not in answer.headers


async def test_who_may_not_is_told_so_and_nothing_is_done(browse: Browse, performed: Performed) -> None:
    answer = await (await browse(filled_mirror()).log_in("viewer")).post("/hosts/host1/greet")
    assert answer.headers["x-zugvogel-refused"]
    assert "this needs the role operator, yours is viewer" in answer.text
    assert performed.calls == []


async def test_nobody_is_sent_to_the_login(browse: Browse, performed: Performed) -> None:
    browser = browse(filled_mirror())
    answer = await browser.post("/hosts/host1/greet")
    assert answer.headers["hx-redirect"] == "/login?next=/"
    assert performed.calls == []


async def test_without_scripts_one_is_sent_back(browse: Browse, performed: Performed) -> None:
    browser = await browse(filled_mirror()).log_in("operator")
    form = {"csrftoken": await browser.csrf()}
    answer = await browser.http.post("/hosts/host1/greet", data=form, headers={"referer": "http://x/hosts?q=1"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/hosts?q=1")
    performed.told = Told(goto="/tasks/t1")
    answer = await browser.http.post("/hosts/host1/greet", data=form)
    assert (answer.status_code, answer.headers["location"]) == (303, "/tasks/t1")


@pytest.mark.parametrize("goto", ["/tasks/t1", "/vms?q=a&sort=b"])
async def test_another_page_may_follow(browse: Browse, performed: Performed, goto: str) -> None:
    performed.told = Told(goto=goto)
    answer = await (await browse(filled_mirror()).log_in("operator")).post("/hosts/host1/greet")
    assert answer.headers["hx-redirect"] == goto
    assert answer.text == ""


async def test_no_header_is_made_of_what_a_name_holds(browse: Browse, performed: Performed) -> None:
    performed.told = Told(goto="/vms/a\r\nset-cookie: x=1\u20ac")
    answer = await (await browse(filled_mirror()).log_in("operator")).post("/hosts/host1/greet")
    assert answer.headers["hx-redirect"] == "/vms/a%0D%0Aset-cookie%3A%20x=1%E2%82%AC"
    assert "set-cookie" not in answer.headers


async def test_a_new_session_takes_the_place_of_the_old_one(browse: Browse, performed: Performed) -> None:
    performed.told = Told(session="admin-token")
    browser = await browse(filled_mirror()).log_in("operator")
    answer = await browser.post("/hosts/host1/greet")
    assert "zugvogel=admin-token" in answer.headers["set-cookie"]
    assert "HttpOnly" in answer.headers["set-cookie"]


@pytest.mark.parametrize("name", ["a%3Fb", "a%23b", "%2e%2e", "a%25b", "a%0ab", "a%5Cb"])
async def test_names_that_cannot_be_ask_nothing(browse: Browse, performed: Performed, name: str) -> None:
    answer = await (await browse(filled_mirror()).log_in("operator")).post(f"/hosts/{name}/greet")
    assert performed.calls == []
    assert answer.status_code == 404 or "there is no such page" in answer.text


@pytest.mark.parametrize(
    "error", [Refused("it runs", "stop it"), Conflict("changed"), Unreachable("<b>no answer</b>", "wait")]
)
async def test_what_the_api_refuses_is_told_with_the_next_step(
    browse: Browse, api: FakeApi, error: Refused
) -> None:
    api.answers[("POST", "/ha/enable")] = error
    browser = await browse(filled_mirror()).log_in("admin")
    answer = await browser.post("/ha/enable")
    assert (answer.status_code, answer.headers["x-zugvogel-refused"]) == (200, "1")
    assert error.cause.replace("<", "&lt;").replace(">", "&gt;") in answer.text
    assert error.next_step in answer.text
    plain = await browser.http.post("/ha/enable", data={"csrftoken": await browser.csrf()})
    assert plain.status_code == error.http_status
    assert error.next_step in plain.text


async def test_a_session_that_ended_leads_to_the_login(browse: Browse, api: FakeApi) -> None:
    api.answers[("POST", "/ha/enable")] = SessionEnded("its time is over")
    browser = await browse(filled_mirror()).log_in("admin")
    answer = await browser.post("/ha/enable")
    assert answer.headers["hx-redirect"] == "/login?next=/"


# settings and high availability ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "value", "told"),
    [
        ("das.failuredetectiontime", "12000", 12000, "das.failuredetectiontime is now 12000."),
        ("das.isolationresponse", "suspend", "suspend", "das.isolationresponse is now suspend."),
    ],
)
async def test_a_setting_is_sent_in_its_own_type(
    browse: Browse, api: FakeApi, name: str, text: str, value: object, told: str
) -> None:
    api.answers[("GET", "/settings")] = list(settings().values())
    api.answers[("PUT", f"/settings/{name}")] = {"name": name, "value": value}
    answer = await (await browse(filled_mirror()).log_in("admin")).post(f"/settings/{name}", value=text)
    assert api.changes() == [("PUT", f"/settings/{name}", {"value": value})]
    assert told in answer.text


async def test_switches_are_sent_as_such(browse: Browse, api: FakeApi) -> None:
    name = next(name for name, held in settings().items() if held["default"] is True)
    api.answers[("GET", "/settings")] = list(settings().values())
    api.answers[("PUT", f"/settings/{name}")] = {"name": name, "value": False}
    answer = await (await browse(filled_mirror()).log_in("admin")).post(f"/settings/{name}", value="false")
    assert api.changes() == [("PUT", f"/settings/{name}", {"value": False})]
    assert f"{name} is now false." in answer.text


@pytest.mark.parametrize("text", ["soon", "", "1.5", "9" * 5000])
async def test_a_text_is_no_number(browse: Browse, api: FakeApi, text: str) -> None:
    api.answers[("GET", "/settings")] = list(settings().values())
    browser = await browse(filled_mirror()).log_in("admin")
    answer = await browser.post("/settings/das.failuredetectiontime", value=text)
    assert "is no whole number" in answer.text
    assert api.changes() == []


async def test_only_admins_change_settings(browse: Browse, api: FakeApi) -> None:
    browser = await browse(filled_mirror()).log_in("operator")
    for path in ("/settings/das.failuredetectiontime", "/ha/enable", "/ha/disable"):
        assert "needs the role admin" in (await browser.post(path, value="1")).text
    assert api.changes() == []


@pytest.mark.parametrize("word", ["enable", "disable"])
async def test_high_availability_is_switched(browse: Browse, api: FakeApi, word: str) -> None:
    api.answers[("POST", f"/ha/{word}")] = {"done": True}
    answer = await (await browse(filled_mirror()).log_in("admin")).post(f"/ha/{word}")
    assert api.changes() == [("POST", f"/ha/{word}", None)]
    assert ("is on." if word == "enable" else "is off:") in answer.text


async def test_a_task_is_cancelled_by_operators(browse: Browse, api: FakeApi) -> None:
    api.answers[("POST", "/tasks/t1/cancel")] = {"done": True}
    browser = await browse(filled_mirror()).log_in("operator")
    assert "asked to stop" in (await browser.post("/tasks/t1/cancel")).text
    assert api.changes() == [("POST", "/tasks/t1/cancel", None)]
    viewer = await browse(filled_mirror()).log_in("viewer")
    assert "needs the role operator" in (await viewer.post("/tasks/t1/cancel")).text


def test_what_was_not_filled_in_is_not_given() -> None:
    api: object = None
    call = Call(api, Person("a", Access.ADMIN, "t"), language("en"), {}, {"a": "1", "b": ""}, {})  # type: ignore[arg-type]
    assert call.given("a", "b", "c") == {"a": "1"}
