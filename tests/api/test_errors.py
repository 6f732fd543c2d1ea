"""Every error has one form over HTTP."""

from __future__ import annotations

import json

import httpx
import pytest

from api.errors import FORMS, Problem, Refusal, of_end, of_error
from tasks import errors
from tasks.errors import Busy, JobError
from tasks.events import Cancelled, Expired, Failed


def _all(kind: type[JobError]) -> list[type[JobError]]:
    return [kind, *(found for child in kind.__subclasses__() for found in _all(child))]


@pytest.mark.parametrize("kind", _all(errors.JobError))
def test_every_job_error_has_a_form(kind: type[JobError]) -> None:
    assert kind.code in FORMS


def test_the_envelope_is_openais() -> None:
    problem = of_error(errors.ContextTooLong("too long", param="messages"))
    response = problem.response()
    assert response.status_code == 400
    assert json.loads(bytes(response.body)) == {
        "error": {
            "message": "too long",
            "type": "invalid_request_error",
            "param": "messages",
            "code": "context_length_exceeded",
        }
    }


def test_a_full_queue_says_when_to_come_back() -> None:
    response = of_error(Busy("full", retry_after_s=17)).response()
    assert response.status_code == 429
    assert response.headers["retry-after"] == "17"


@pytest.mark.parametrize(
    "code", ["idempotency_conflict", "deadline_exceeded", "worker_lost", "job_cancelled"]
)
def test_what_must_not_be_repeated_tells_the_sdk_so(code: str) -> None:
    assert Problem(code, "no").response().headers["x-should-retry"] == "false"


def test_what_may_be_repeated_waits_at_most_two_minutes() -> None:
    waits = [form.retry_after_s for form in FORMS.values() if form.retry_after_s is not None]
    assert waits
    assert max(waits) <= 120


def test_an_unknown_code_is_a_server_error() -> None:
    assert Problem("never_heard_of", "hm").response().status_code == 500


def test_unhappy_ends_map_to_their_errors() -> None:
    assert of_end(Failed("model_not_found", "gone", "model")).form.status == 404
    assert of_end(Expired()).form.status == 504
    assert of_end(Cancelled("requested")).code == "job_cancelled"
    assert "nobody" in of_end(Cancelled("no_reader")).message


def test_a_refusal_can_be_seen_from_further_out() -> None:
    assert Refusal("invalid_value", "no", "messages[0]").within("[3]").problem.param == "[3].messages[0]"
    assert Refusal("invalid_value", "no").within("[3]").problem.param == "[3]"


def test_each_dialect_is_told_in_its_own_words() -> None:
    problem = Problem("model_not_found", "there is no such model", "model")
    assert json.loads(bytes(problem.response("/api/chat").body)) == {"error": "there is no such model"}
    assert "error" in json.loads(bytes(problem.response("/v1/models/x").body))
    assert problem.response("/api/chat").status_code == problem.response("/v1/models/x").status_code == 404


@pytest.mark.parametrize(("path", "is_word"), [("/api/nowhere", True), ("/v1/nowhere", False)])
async def test_what_the_router_refuses_is_told_in_the_dialect_of_its_path(
    client: httpx.AsyncClient, path: str, is_word: bool
) -> None:
    told = (await client.get(path)).json()["error"]
    assert isinstance(told, str) is is_word
