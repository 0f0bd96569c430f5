"""Both clients return what the server answered, raise what it refused, send again what may be sent again."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx2
import pytest

from palimpsest import (
    AsyncPalimpsest,
    InvalidRequest,
    JobFailed,
    JobNotDone,
    NotFound,
    Palimpsest,
    RequestRefused,
    RequestTimedOut,
    ServerError,
    ServerUnreachable,
    TooManyRequests,
    UnexpectedAnswer,
)
from palimpsest.requests import read_retry_after

Handler = Callable[[httpx2.Request], httpx2.Response]
Use = Callable[[Any], Any]
Client = Callable[[Handler, Use], Any]

RUNNING: dict[str, Any] = {
    "id": "job_1",
    "object": "job",
    "model": "mdl_1",
    "model_name": "m",
    "operation": "learn",
    "strategy": "replay_ewc",
    "guarantee": None,
    "params": {},
    "labels": ["0"],
    "already_forgotten": {},
    "renamed": {},
    "state": "running",
    "done": False,
    "progress": {
        "phase": "train",
        "step": 1,
        "total": 4,
        "fraction": 0.25,
        "eta_seconds": 3.0,
        "loss": 120.5,
        "a_field_of_next_year": 1,
    },
    "queue_position": None,
    "packages": {},
    "queue": "default",
    "priority": 0,
    "waits_for": None,
    "attempt": 1,
    "max_attempts": 3,
    "base_version": None,
    "evaluated_version": None,
    "output_version": None,
    "purge": None,
    "image_erasure": None,
    "elsewhere": None,
    "seed": 0,
    "acceptance": {},
    "retry_of": None,
    "follows": None,
    "followed_by": None,
    "expires_in": None,
    "made_permanent": [],
    "trace_id": None,
    "reference": None,
    "metadata": {},
    "also_requested": [],
    "request_id": None,
    "created_by": None,
    "cost": None,
    "error": None,
    "created_at": "2026-01-01T00:00:00Z",
    "started_at": "2026-01-01T00:00:01Z",
    "finished_at": None,
    "links": {},
    "a_field_of_next_year": True,
}
SUCCEEDED = {**RUNNING, "state": "succeeded", "done": True, "progress": None, "output_version": 1}
FAILED = {
    **RUNNING,
    "state": "failed",
    "done": True,
    "error": {"type": "diverged", "code": "diverged", "message": "the loss is no number", "retryable": False},
}
PROBLEM = {"code": "model_not_found", "detail": "there is no model x", "request_id": "req_1"}
KEY = "Idempotency-Key"


def with_sync_client(handler: Handler, use: Use) -> Any:
    """Use a client whose server answers with `handler`; return what `use` returns."""
    with Palimpsest("http://palimpsest.test", transport=httpx2.MockTransport(handler)) as client:
        return use(client)


def with_async_client(handler: Handler, use: Use) -> Any:
    """Use an async client in the same way: what `use` returns is awaited."""

    async def run() -> Any:
        transport = httpx2.MockTransport(handler)
        async with AsyncPalimpsest("http://palimpsest.test", transport=transport) as client:
            found = use(client)
            if isinstance(found, Awaitable):
                return await found
            return [item async for item in found]

    return asyncio.run(run())


@pytest.fixture(params=[with_sync_client, with_async_client], ids=["sync", "async"])
def client(request: pytest.FixtureRequest) -> Client:
    """Use one client, then the other."""
    chosen: Client = request.param
    return chosen


def in_order(*answers: httpx2.Response | Handler) -> Handler:
    """Give each of the answers once, in this order."""
    remaining: Iterator[httpx2.Response | Handler] = iter(answers)

    def answer(request: httpx2.Request) -> httpx2.Response:
        found = next(remaining)
        return found if isinstance(found, httpx2.Response) else found(request)

    return answer


def problem(status: int, retry_after: str = "0", **fields: object) -> httpx2.Response:
    """Make an error answer as the API writes it."""
    headers = {"Content-Type": "application/problem+json", "Retry-After": retry_after}
    return httpx2.Response(status, headers=headers, json={**PROBLEM, **fields})


def not_connected(request: httpx2.Request) -> httpx2.Response:
    raise httpx2.ConnectError("connection refused", request=request)


def lost(request: httpx2.Request) -> httpx2.Response:
    raise httpx2.ReadError("connection reset", request=request)


def too_slow(request: httpx2.Request) -> httpx2.Response:
    raise httpx2.ReadTimeout("too slow", request=request)


class Recorder:
    """A server that gives these answers, and records the requests."""

    def __init__(self, *answers: httpx2.Response | Handler) -> None:
        self.requests: list[httpx2.Request] = []
        self._answer = in_order(*answers)

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        return self._answer(request)


def test_a_problem_document_is_raised_as_its_kind_with_all_that_it_says(client: Client) -> None:
    broken = [{"pointer": "/labels/0", "code": "unknown_label", "detail": "no label x"}]
    with pytest.raises(NotFound, match="there is no model x") as refused:
        client(lambda _: problem(404, errors=broken, job="job_1"), lambda c: c.models.get("x"))
    error = refused.value
    assert (error.status, error.code, error.request_id, error.job) == (
        404,
        "model_not_found",
        "req_1",
        "job_1",
    )
    assert [violation.pointer for violation in error.errors] == ["/labels/0"]
    assert "/labels/0: no label x" in str(error)


@pytest.mark.parametrize(
    ("status", "kind"), [(400, InvalidRequest), (422, InvalidRequest), (500, ServerError), (507, ServerError)]
)
def test_every_status_has_a_kind(client: Client, status: int, kind: type[RequestRefused]) -> None:
    with pytest.raises(kind):
        client(lambda _: problem(status), lambda c: c.models.get("x"))


def test_an_error_without_a_problem_document_says_that_another_program_may_have_answered(
    client: Client,
) -> None:
    with pytest.raises(RequestRefused) as refused:
        client(lambda _: httpx2.Response(500, text="<html>"), lambda c: c.models.get("x"))
    assert (refused.value.status, refused.value.code) == (500, "not_a_problem")
    assert "proxy" in refused.value.detail


def test_an_answer_that_is_no_value_of_this_api_says_so(client: Client) -> None:
    with pytest.raises(UnexpectedAnswer, match="the answer is no Model"):
        client(lambda _: httpx2.Response(200, text="<html>"), lambda c: c.models.get("x"))


def test_a_server_that_does_not_answer_is_named_with_what_to_check(client: Client) -> None:
    server = Recorder(*[not_connected] * 3)
    with pytest.raises(ServerUnreachable, match=r"http://palimpsest\.test.*check the address"):
        client(server, lambda c: c.models.get("x"))
    assert len(server.requests) == 3


def test_a_timeout_says_how_long_the_client_waited(client: Client) -> None:
    with pytest.raises(RequestTimedOut, match="within 60 s"):
        client(Recorder(*[too_slow] * 3), lambda c: c.models.get("x"))


def test_a_lost_answer_to_a_post_is_asked_for_again_with_the_same_key(client: Client) -> None:
    server = Recorder(lost, problem(503), httpx2.Response(202, json=RUNNING))
    assert client(server, lambda c: c.models.learn("m", ["0"])).id == "job_1"
    keys = {request.headers[KEY] for request in server.requests}
    assert len(server.requests) == 3
    assert len(keys) == 1


def test_every_post_has_a_key_of_its_own_unless_one_is_named(client: Client) -> None:
    server = Recorder(*[httpx2.Response(202, json=RUNNING)] * 3)
    for _ in range(2):
        client(server, lambda c: c.models.learn("m", ["0"]))
    client(server, lambda c: c.models.learn("m", ["0"], idempotency_key="mine"))
    first, second, third = (request.headers[KEY] for request in server.requests)
    assert first != second
    assert third == "mine"


@pytest.mark.parametrize(
    "use",
    [lambda c: c.models.delete("m"), lambda c: c.samples.create("m", ["0"])],
    ids=["a model deleted twice is not found", "a sample drawn twice is recorded twice"],
)
def test_a_lost_answer_is_not_asked_for_again_where_twice_is_not_once(client: Client, use: Use) -> None:
    server = Recorder(lost)
    with pytest.raises(ServerUnreachable):
        client(server, use)
    assert len(server.requests) == 1


def test_a_request_that_was_refused_untried_is_sent_again_whatever_it_is(client: Client) -> None:
    server = Recorder(problem(429), not_connected, httpx2.Response(204))
    client(server, lambda c: c.models.delete("m"))
    assert len(server.requests) == 3


def test_an_error_that_stays_is_not_asked_for_again(client: Client) -> None:
    server = Recorder(problem(404))
    with pytest.raises(NotFound):
        client(server, lambda c: c.models.learn("x", ["0"]))


def test_a_server_that_asks_for_more_than_a_minute_is_not_waited_for(client: Client) -> None:
    server = Recorder(problem(429, retry_after="61", code="quota_exceeded"))
    with pytest.raises(TooManyRequests) as refused:
        client(server, lambda c: c.models.get("m"))
    assert refused.value.retry_after == 61


def test_the_next_attempt_comes_no_earlier_than_retry_after_says(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", pauses.append)
    server = Recorder(problem(503, retry_after="7"), httpx2.Response(200, json=SUCCEEDED))
    with_sync_client(server, lambda c: c.jobs.get("job_1"))
    assert pauses == [7]


def test_retry_after_is_read_as_seconds_and_as_a_date() -> None:
    at = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    found = [
        read_retry_after(httpx2.Response(503, headers={"Retry-After": text})) for text in ("7", at, "later")
    ]
    assert found[0] == 7
    assert found[1] is not None
    assert 20 < found[1] <= 30
    assert found[2] is None


def test_waiting_reports_every_answer_and_ends_with_the_finished_job(client: Client) -> None:
    states: list[str] = []
    server = in_order(
        httpx2.Response(200, headers={"Retry-After": "0"}, json=RUNNING), httpx2.Response(200, json=SUCCEEDED)
    )
    job = client(
        server,
        lambda c: c.jobs.wait("job_1", on_progress=lambda job: states.append(job.progress and job.state)),
    )
    assert states == ["running", None]
    assert (job.output_version, job.succeeded) == (1, True)


def test_the_progress_of_an_async_client_may_be_awaited() -> None:
    seen: list[str] = []

    async def note(job: Any) -> None:
        await asyncio.sleep(0)
        seen.append(job.state)

    server = in_order(httpx2.Response(200, json=SUCCEEDED))
    with_async_client(server, lambda c: c.jobs.wait("job_1", on_progress=note))
    assert seen == ["succeeded"]


def test_waiting_pauses_for_as_long_as_retry_after_says(monkeypatch: pytest.MonkeyPatch) -> None:
    server = in_order(
        httpx2.Response(200, headers={"Retry-After": "7"}, json=RUNNING), httpx2.Response(200, json=SUCCEEDED)
    )
    pauses: list[float] = []
    monkeypatch.setattr("palimpsest.transports.time.sleep", pauses.append)
    with_sync_client(server, lambda c: c.jobs.wait("job_1"))
    assert pauses == [7]


def test_waiting_survives_a_server_that_is_away_for_longer_than_one_request_waits(client: Client) -> None:
    server = in_order(*[problem(503)] * 4, *[not_connected] * 3, httpx2.Response(200, json=SUCCEEDED))
    assert client(server, lambda c: c.jobs.wait("job_1")).done


def test_waiting_ends_at_a_refusal(client: Client) -> None:
    with pytest.raises(NotFound):
        client(lambda _: problem(404), lambda c: c.jobs.wait("job_1"))


def test_waiting_ends_at_its_timeout_and_says_what_the_job_does(client: Client) -> None:
    running = httpx2.Response(200, headers={"Retry-After": "0"}, json=RUNNING)
    with pytest.raises(JobNotDone, match=r"job_1 is still running.*cancel\('job_1'\)"):
        client(lambda _: running, lambda c: c.jobs.wait("job_1", timeout=0.0))


def test_a_job_that_must_succeed_raises_its_reason(client: Client) -> None:
    server = in_order(httpx2.Response(200, json=FAILED))
    with pytest.raises(JobFailed, match="diverged: the loss is no number") as failed:
        client(server, lambda c: c.jobs.wait("job_1", must_succeed=True))
    assert failed.value.job.state == "failed"


def test_a_list_is_read_page_by_page_as_far_as_it_is_read(client: Client) -> None:
    def page(jobs: list[str], following: str | None) -> httpx2.Response:
        data = [{**SUCCEEDED, "id": name} for name in jobs]
        return httpx2.Response(200, json={"data": data, "has_more": bool(following), "next": following})

    server = Recorder(page(["job_3", "job_2"], "job_2"), page(["job_1"], None), page(["job_9"], "job_9"))
    found = client(server, lambda c: list(c.jobs.list()) if isinstance(c, Palimpsest) else c.jobs.list())
    assert [job.id for job in found] == ["job_3", "job_2", "job_1"]
    assert [request.url.params.get("after") for request in server.requests] == [None, "job_2"]
    assert with_sync_client(server, lambda c: next(iter(c.jobs.list()))).id == "job_9"
    assert len(server.requests) == 3


def test_what_is_none_is_not_sent(client: Client) -> None:
    server = Recorder(*[httpx2.Response(202, json=RUNNING)] * 4)
    client(server, lambda c: c.models.learn("m", ["0"], seed=3))
    client(server, lambda c: c.models.learn("m", ["0"], retention="temporary"))
    client(server, lambda c: c.models.forget("m", ["0"], purge=True))
    client(
        server, lambda c: c.models.learn("m", ["sneaker"], dataset="fashion_mnist", names={"sneaker": "shoe"})
    )
    assert [json.loads(request.content) for request in server.requests] == [
        {"labels": ["0"], "seed": 3},
        {"labels": ["0"], "retention": "temporary"},
        {"labels": ["0"], "purge": True},
        {"labels": ["sneaker"], "dataset": "fashion_mnist", "as": {"sneaker": "shoe"}},
    ]


def test_a_slash_in_a_name_stays_inside_its_path_segment(client: Client) -> None:
    server = Recorder(problem(404))
    with pytest.raises(NotFound):
        client(server, lambda c: c.versions.report("a/b", 1))
    assert server.requests[0].url.raw_path == b"/v1/models/a%2Fb/versions/1/report"


def test_unknown_fields_are_kept_at_every_depth(client: Client) -> None:
    job = client(in_order(httpx2.Response(200, json=RUNNING)), lambda c: c.jobs.get("job_1"))
    assert job.a_field_of_next_year is True
    assert job.progress.a_field_of_next_year == 1
    assert job.to_json() == RUNNING


def test_address_and_key_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALIMPSEST_URL", "http://elsewhere.test")
    monkeypatch.setenv("PALIMPSEST_API_KEY", "pal_1_secret")
    server = Recorder(httpx2.Response(200, json=SUCCEEDED))
    with Palimpsest(project="p", transport=httpx2.MockTransport(server)) as palimpsest:
        palimpsest.jobs.get("job_1")
        assert "secret" not in repr(palimpsest)
    [sent] = server.requests
    assert sent.url == "http://elsewhere.test/v1/jobs/job_1"
    assert sent.headers["Authorization"] == "Bearer pal_1_secret"
    assert sent.headers["Palimpsest-Project"] == "p"


def event(number: int, type: str = "log", **fields: object) -> str:
    """Write an event as the server streams it."""
    data = {"id": str(number), "job": "job_1", "type": type, "created_at": "2026-01-01T00:00:00Z", **fields}
    return f"event: {type}\ndata: {json.dumps(data)}\nid: {number}\n\n"


def stream_of(*events: str, cut: bool = False) -> Handler:
    """Answer with a stream of these events, which ends, or is cut off."""

    class Body(httpx2.SyncByteStream, httpx2.AsyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield from (one.encode() for one in events)
            if cut:
                raise httpx2.ReadError("connection reset")

        async def __aiter__(self) -> AsyncIterator[bytes]:
            for one in self:
                yield one

    return lambda _: httpx2.Response(200, headers={"Content-Type": "text/event-stream"}, stream=Body())


ENDED = event(3, "state", state="succeeded", done=True, attempt=1, code=None)


def followed(client: Client, server: Handler) -> list[str]:
    """Follow a job; return the ids of its events."""

    def use(c: Palimpsest | AsyncPalimpsest) -> Any:
        return list(c.jobs.events("job_1")) if isinstance(c, Palimpsest) else c.jobs.events("job_1")

    return [one.id for one in client(server, use)]


def test_a_stream_that_is_cut_off_goes_on_after_its_last_event(client: Client) -> None:
    first = event(1, message="a line")
    server = Recorder(
        stream_of(first, cut=True), problem(503), not_connected, stream_of(event(2, "new"), ENDED)
    )
    assert followed(client, server) == ["1", "2", "3"]
    seen = [request.headers.get("Last-Event-ID") for request in server.requests]
    assert seen == [None, "1", "1", "1"]


def test_a_stream_ends_where_the_server_has_no_more(client: Client) -> None:
    assert followed(client, Recorder(stream_of(event(1, message="a line")), httpx2.Response(204))) == ["1"]
    assert followed(client, Recorder(stream_of(), stream_of())) == []


def test_a_stream_that_is_refused_raises_the_refusal(client: Client) -> None:
    with pytest.raises(NotFound):
        followed(client, Recorder(problem(404)))
