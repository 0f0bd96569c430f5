"""The client returns what the server answered, raises what it refused, and waits for jobs."""

from collections.abc import Callable, Iterator

import httpx2
import pytest

from palimpsest import Job, Palimpsest, RequestRefused, ServerUnreachable

Handler = Callable[[httpx2.Request], httpx2.Response]

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


def client_of(handler: Handler) -> Palimpsest:
    """Make a client whose server answers with `handler`."""
    return Palimpsest("http://palimpsest.test", transport=httpx2.MockTransport(handler))


def in_order(*answers: httpx2.Response) -> Handler:
    """Give each of the answers once, in this order."""
    remaining: Iterator[httpx2.Response] = iter(answers)
    return lambda _: next(remaining)


def problem(status: int, **fields: object) -> httpx2.Response:
    """Make an error answer as the API writes it."""
    headers = {"Content-Type": "application/problem+json", "Retry-After": "0"}
    return httpx2.Response(status, headers=headers, json={**PROBLEM, **fields})


def no_answer(request: httpx2.Request) -> httpx2.Response:
    raise httpx2.ConnectError("connection refused", request=request)


def test_a_problem_document_is_raised_with_its_code_and_advice() -> None:
    with pytest.raises(RequestRefused, match="there is no model x") as refused:
        client_of(lambda _: problem(404)).model("x")
    assert (refused.value.status, refused.value.code, refused.value.request_id) == (
        404,
        "model_not_found",
        "req_1",
    )


def test_an_error_without_a_problem_document_says_that_another_program_may_have_answered() -> None:
    with pytest.raises(RequestRefused) as refused:
        client_of(lambda _: httpx2.Response(502, text="<html>")).model("x")
    assert (refused.value.status, refused.value.code) == (502, "not_a_problem")
    assert "proxy" in refused.value.detail


def test_a_server_that_does_not_answer_is_named_with_what_to_check() -> None:
    with pytest.raises(ServerUnreachable, match=r"http://palimpsest\.test.*check the address"):
        client_of(no_answer).model("x")


def test_waiting_reports_every_answer_and_ends_with_the_finished_job() -> None:
    states: list[str] = []
    server = in_order(
        httpx2.Response(200, headers={"Retry-After": "0"}, json=RUNNING), httpx2.Response(200, json=SUCCEEDED)
    )
    job = client_of(server).wait(
        Job.model_validate(RUNNING), on_progress=lambda job: states.append(job.state)
    )
    assert states == ["running", "succeeded"]
    assert job.output_version == 1


def test_waiting_pauses_for_as_long_as_retry_after_says(monkeypatch: pytest.MonkeyPatch) -> None:
    server = in_order(
        httpx2.Response(200, headers={"Retry-After": "7"}, json=RUNNING), httpx2.Response(200, json=SUCCEEDED)
    )
    pauses: list[float] = []
    monkeypatch.setattr("palimpsest.client.time.sleep", pauses.append)
    client_of(server).wait(Job.model_validate(RUNNING))
    assert pauses[-1] == 7


def test_waiting_survives_a_server_that_is_away_for_a_moment() -> None:
    answers: Iterator[Handler] = iter(
        [lambda _: problem(503), no_answer, lambda _: httpx2.Response(200, json=SUCCEEDED)]
    )
    assert client_of(lambda request: next(answers)(request)).wait(Job.model_validate(RUNNING)).done


def test_waiting_ends_at_a_refusal() -> None:
    with pytest.raises(RequestRefused, match="model_not_found"):
        client_of(lambda _: problem(404)).wait(Job.model_validate(RUNNING))


def test_waiting_ends_at_its_timeout_and_says_what_the_job_does() -> None:
    running = httpx2.Response(200, headers={"Retry-After": "0"}, json=RUNNING)
    with pytest.raises(TimeoutError, match=r"job_1 is still running.*cancel\('job_1'\)"):
        client_of(lambda _: running).wait(Job.model_validate(RUNNING), timeout=0.0)


def test_what_is_none_is_not_sent() -> None:
    sent: list[bytes] = []

    def record(request: httpx2.Request) -> httpx2.Response:
        sent.append(request.content)
        return httpx2.Response(202, json=RUNNING)

    client_of(record).learn("m", ["0"], seed=3)
    client_of(record).learn("m", ["0"], retention="temporary")
    client_of(record).forget("m", ["0"], purge=True)
    client_of(record).learn("m", ["sneaker"], dataset="fashion_mnist", names={"sneaker": "shoe"})
    assert sent == [
        b'{"labels":["0"],"seed":3}',
        b'{"labels":["0"],"retention":"temporary"}',
        b'{"labels":["0"],"purge":true}',
        b'{"labels":["sneaker"],"dataset":"fashion_mnist","as":{"sneaker":"shoe"}}',
    ]


def test_an_archive_is_sent_unchanged() -> None:
    sent: list[tuple[str, str, str, bytes]] = []

    def record(request: httpx2.Request) -> httpx2.Response:
        sent.append((request.method, request.url.path, request.headers["Content-Type"], request.content))
        return httpx2.Response(201, json={"name": "doodles", "title": "Uploaded", "labels": ["a"]})

    assert client_of(record).upload_dataset("doodles", b"PK...").labels == ("a",)
    assert sent == [("PUT", "/v1/datasets/doodles", "application/zip", b"PK...")]


def test_a_receipt_is_returned_byte_for_byte() -> None:
    server = in_order(httpx2.Response(200, content=b'{ "payload": ... }\n'))
    assert client_of(server).receipt("job_1") == b'{ "payload": ... }\n'


def test_a_slash_in_a_name_stays_inside_its_path_segment() -> None:
    paths: list[bytes] = []

    def record(request: httpx2.Request) -> httpx2.Response:
        paths.append(request.url.raw_path)
        return problem(404)

    with pytest.raises(RequestRefused):
        client_of(record).report("a/b", 1)
    assert paths == [b"/v1/models/a%2Fb/versions/1/report"]
