"""The client says what the server said: values, problems, and patience while a job runs."""

import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from palimpsest.client import Palimpsest, RequestRefused
from palimpsest.values import Job

Handler = Callable[[httpx.Request], httpx.Response]

RUNNING = {
    "id": "job_1",
    "model": "mdl_1",
    "operation": "learn",
    "strategy": "replay_ewc",
    "labels": ["0"],
    "state": "running",
    "done": False,
    "progress": {
        "phase": "train",
        "step": 1,
        "total": 4,
        "fraction": 0.25,
        "eta_seconds": 3.0,
        "loss": 120.5,
    },
    "attempt": 1,
    "base_version": None,
    "output_version": None,
    "seed": 0,
    "error": None,
    "created_at": "2026-01-01T00:00:00Z",
    "started_at": "2026-01-01T00:00:01Z",
    "finished_at": None,
    "a_field_of_next_year": True,
}
SUCCEEDED = {**RUNNING, "state": "succeeded", "done": True, "progress": None, "output_version": 1}
PROBLEM = {"code": "model_not_found", "detail": "there is no model x", "request_id": "req_1"}


def served(handler: Handler) -> Palimpsest:
    """A client of a server that answers with `handler`."""
    return Palimpsest("http://palimpsest.test", transport=httpx.MockTransport(handler))


def one_after_the_other(*answers: httpx.Response) -> Handler:
    """A server that gives each answer once, in order."""
    coming: Iterator[httpx.Response] = iter(answers)
    return lambda _: next(coming)


def problem(status: int, **fields: object) -> httpx.Response:
    """A refusal as the API writes it."""
    headers = {"Content-Type": "application/problem+json", "Retry-After": "0"}
    return httpx.Response(status, headers=headers, json={**PROBLEM, **fields})


def test_a_problem_document_is_raised_with_its_code_and_advice() -> None:
    with pytest.raises(RequestRefused, match="there is no model x") as refused:
        served(lambda _: problem(404)).model("x")
    assert (refused.value.status, refused.value.code, refused.value.request_id) == (
        404,
        "model_not_found",
        "req_1",
    )


def test_an_error_without_a_problem_document_is_told_as_such() -> None:
    with pytest.raises(RequestRefused) as refused:
        served(lambda _: httpx.Response(502, text="<html>")).model("x")
    assert (refused.value.status, refused.value.code) == (502, "not_a_problem")


def test_a_server_that_does_not_answer_is_told_as_unreachable() -> None:
    def silent(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(RequestRefused) as refused:
        served(silent).model("x")
    assert refused.value.code == "unreachable"


def test_waiting_tells_every_answer_and_ends_with_the_done_job() -> None:
    told: list[str] = []
    server = one_after_the_other(
        httpx.Response(200, headers={"Retry-After": "0"}, json=RUNNING), httpx.Response(200, json=SUCCEEDED)
    )
    job = served(server).wait(Job.model_validate(RUNNING), on_progress=lambda job: told.append(job.state))
    assert told == ["running", "succeeded"]
    assert job.output_version == 1


def test_waiting_asks_again_no_sooner_than_retry_after_says() -> None:
    server = one_after_the_other(
        httpx.Response(200, headers={"Retry-After": "1"}, json=RUNNING), httpx.Response(200, json=SUCCEEDED)
    )
    started = time.monotonic()
    served(server).wait(Job.model_validate(RUNNING))
    assert time.monotonic() - started >= 1.0


def test_waiting_bears_a_server_that_is_away_for_a_moment() -> None:
    server = one_after_the_other(problem(503), problem(503), httpx.Response(200, json=SUCCEEDED))
    assert served(server).wait(Job.model_validate(RUNNING)).done


def test_waiting_does_not_bear_a_refusal() -> None:
    with pytest.raises(RequestRefused, match="model_not_found"):
        served(lambda _: problem(404)).wait(Job.model_validate(RUNNING))


def test_waiting_ends_at_its_timeout_and_says_how_the_job_stands() -> None:
    running = httpx.Response(200, headers={"Retry-After": "0"}, json=RUNNING)
    with pytest.raises(TimeoutError, match="job_1 is still running"):
        served(lambda _: running).wait(Job.model_validate(RUNNING), timeout=0.0)


def test_a_choice_left_open_is_not_sent() -> None:
    sent: list[bytes] = []

    def remember(request: httpx.Request) -> httpx.Response:
        sent.append(request.content)
        return httpx.Response(202, json=RUNNING)

    served(remember).learn("m", ["0"], seed=3)
    served(remember).learn("m", ["0"], retention="temporary")
    served(remember).forget("m", ["0"], purge=True)
    served(remember).learn("m", ["sneaker"], dataset="fashion_mnist", names={"sneaker": "shoe"})
    assert sent == [
        b'{"labels":["0"],"seed":3}',
        b'{"labels":["0"],"retention":"temporary"}',
        b'{"labels":["0"],"purge":true}',
        b'{"labels":["sneaker"],"dataset":"fashion_mnist","as":{"sneaker":"shoe"}}',
    ]


def test_an_archive_is_sent_as_it_is() -> None:
    sent: list[tuple[str, str, str, bytes]] = []

    def remember(request: httpx.Request) -> httpx.Response:
        sent.append((request.method, request.url.path, request.headers["Content-Type"], request.content))
        return httpx.Response(201, json={"name": "doodles", "title": "Uploaded", "labels": ["a"]})

    assert served(remember).upload_dataset("doodles", b"PK...").labels == ("a",)
    assert sent == [("PUT", "/v1/datasets/doodles", "application/zip", b"PK...")]


def test_a_receipt_is_handed_on_byte_for_byte() -> None:
    server = one_after_the_other(httpx.Response(200, content=b'{ "payload": ... }\n'))
    assert served(server).receipt("job_1") == b'{ "payload": ... }\n'


def test_a_slash_in_a_name_stays_inside_its_path_segment() -> None:
    asked: list[bytes] = []

    def remember(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.raw_path)
        return problem(404)

    with pytest.raises(RequestRefused):
        served(remember).report("a/b", 1)
    assert asked == [b"/v1/models/a%2Fb/versions/1/report"]
