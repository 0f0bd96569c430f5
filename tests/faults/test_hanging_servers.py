"""A server that hangs instead of dying delays no answer for long, and no takeover."""

import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import psycopg
import pytest
import redis

from service.settings import Settings
from tests.faults.servers import (
    Proxy,
    Server,
    own_postgresql,
    own_redis,
    postgresql_url,
    proxy_to,
    redis_url,
)
from tests.instance import Instance, instance_of, stop, wait_for

ANSWER_SECONDS = 2.0
"""How much longer than usual an answer may take, whatever hangs. (A busy machine is slow without it.)"""
SUBMIT_SECONDS = 1.0
"""How much longer than usual a submit may take while the broker hangs."""
STOP_SECONDS = 18.0
CLIENTS = 50


@dataclass
class Deployed:
    """An instance on servers of its own, which it reaches through a proxy."""

    instance: Instance
    postgresql: Server
    redis: Server
    proxy: Proxy


@contextmanager
def deployed(folder: Path, **settings: float) -> Iterator[Deployed]:
    with ExitStack() as stack:
        postgresql = stack.enter_context(own_postgresql())
        redis = stack.enter_context(own_redis())
        proxy = stack.enter_context(proxy_to(postgresql.port))
        deployment = Settings(
            home=folder / "home",
            database_url=postgresql_url(postgresql, port=proxy.port),
            broker_url=redis_url(redis),
            port=0,
            **settings,  # type: ignore[arg-type]
        )
        instance = stack.enter_context(instance_of(deployment, folder))
        yield Deployed(instance, postgresql, redis, proxy)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Deployed]:
    """A running API and sweeper with a model, without a worker."""
    with deployed(tmp_path) as one:
        one.instance.up("serve")
        one.instance.create()
        yield one


@dataclass(frozen=True)
class Answer:
    status: int
    seconds: float
    body: dict[str, object]
    retry_after: str | None


def ask(http: httpx2.Client, path: str, body: object = None) -> Answer:
    """Send one request; return the answer and how long it took."""
    begun = time.monotonic()
    answer = http.request("GET" if body is None else "POST", path, json=body)
    seconds = time.monotonic() - begun
    return Answer(answer.status_code, seconds, answer.json(), answer.headers.get("Retry-After"))


def slowest(answers: Sequence[Answer]) -> float:
    """Return how many seconds the slowest of these answers took."""
    return max(answer.seconds for answer in answers)


def ask_at_once(instance: Instance, path: str, count: int = CLIENTS) -> list[Answer]:
    """Send so many requests at the same time, on connections that are open already."""
    limits = httpx2.Limits(max_connections=count, max_keepalive_connections=count)
    client = httpx2.Client(base_url=instance.url, timeout=60, limits=limits)
    with client as http, ThreadPoolExecutor(count) as pool:
        list(pool.map(lambda _: ask(http, "/livez"), range(count)))
        return list(pool.map(lambda _: ask(http, path), range(count)))


def hang(served: Deployed, how: str) -> None:
    served.postgresql.suspend() if how == "frozen server" else served.proxy.silence()


def heal(served: Deployed, how: str) -> None:
    served.postgresql.resume() if how == "frozen server" else served.proxy.resume()


@pytest.mark.parametrize("how", ["frozen server", "silent wire"])
def test_every_answer_comes_in_time_while_the_database_hangs(served: Deployed, how: str) -> None:
    instance = served.instance
    paths = ("/v1/jobs", f"/v1/jobs/{instance.submit('learn', labels=['0'])}")
    usual = [answer for path in paths for answer in ask_at_once(instance, path)]
    assert {answer.status for answer in usual} == {200}
    longest = ANSWER_SECONDS + slowest(usual)
    hang(served, how)
    answers = [answer for path in paths for answer in ask_at_once(instance, path)]
    assert {(answer.status, answer.body["code"]) for answer in answers} == {(503, "database_unavailable")}
    assert all(answer.retry_after for answer in answers)
    assert slowest(answers) < longest
    with httpx2.Client(base_url=instance.url, timeout=60) as http:
        alive, ready, learn = (
            ask(http, "/livez"),
            ask(http, "/readyz"),
            ask(http, "/v1/models/m/learn", {"labels": ["1"]}),
        )
    assert (alive.status, ready.status, learn.status) == (200, 503, 503)
    assert "the database" in str(ready.body["checks"])
    assert alive.seconds < SUBMIT_SECONDS
    assert slowest([ready, learn]) < longest
    heal(served, how)
    wait_for("requests are answered again", lambda: ask_at_once(instance, "/v1/jobs", 1)[0].status == 200, 10)


def test_a_lock_that_is_not_released_delays_only_what_needs_it(served: Deployed) -> None:
    instance = served.instance
    instance.submit("learn", labels=["0"])
    longest = ANSWER_SECONDS + slowest(ask_at_once(instance, "/v1/jobs"))
    with psycopg.connect(postgresql_url(served.postgresql).replace("+psycopg", "")) as other:
        other.execute("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
        with httpx2.Client(base_url=instance.url, timeout=60) as http, ThreadPoolExecutor(1) as pool:
            locked = pool.submit(ask_at_once, instance, "/v1/jobs")
            others = [ask(http, path) for path in ("/livez", "/v1/catalog/report-schema", "/livez")]
            answers = locked.result()
            assert ask(http, "/v1/catalog").status == 200
    assert {answer.status for answer in others} == {200}
    assert max(answer.seconds for answer in others) < SUBMIT_SECONDS
    assert {answer.status for answer in answers} == {503}
    assert slowest(answers) < longest


@pytest.mark.parametrize("what", ["database", "broker", "both"])
def test_sigterm_ends_the_processes_in_time_whatever_hangs(tmp_path: Path, what: str) -> None:
    with deployed(tmp_path) as one:
        processes = [one.instance.up("serve"), one.instance.run("sweep"), one.instance.run("worker")]
        wait_for("the worker is ready", lambda: " ready." in one.instance.log.read_text())
        if what in ("database", "both"):
            one.postgresql.suspend()
        if what in ("broker", "both"):
            one.redis.suspend()
        ask_at_once(one.instance, "/readyz", 1)
        begun = time.monotonic()
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            process.wait(60)
        assert time.monotonic() - begun < STOP_SECONDS


def test_a_submit_does_not_wait_for_a_broker_that_hangs(served: Deployed) -> None:
    instance = served.instance
    digits = [str(digit) for digit in range(10)]
    for name in ("cold", "warm"):
        for digit in digits[:3]:
            instance.create(f"{name}{digit}")
    instance.create("usual")
    served.redis.suspend()
    with httpx2.Client(base_url=instance.url, timeout=60) as http:
        cold = [ask(http, f"/v1/models/cold{digit}/learn", {"labels": ["1"]}) for digit in digits[:3]]
        served.redis.resume()
        wait_for("messages arrive", lambda: _queue_length(served.redis) > 0)
        served.redis.suspend()
        warm = [ask(http, f"/v1/models/warm{digit}/learn", {"labels": ["1"]}) for digit in digits[:3]]
        ready = ask(http, "/readyz")
        served.redis.resume()
        usual = ask(http, "/v1/models/usual/learn", {"labels": ["1"]})
    assert {answer.status for answer in [usual, *cold, *warm]} == {202}
    assert slowest(cold + warm) < SUBMIT_SECONDS + usual.seconds
    assert (ready.status, ready.body["status"]) == (200, "degraded")
    assert ready.seconds < ANSWER_SECONDS + usual.seconds


def _queue_length(server: Server) -> int:
    with redis.Redis(port=server.port) as connection:
        return int(connection.llen("palimpsest"))


def test_a_dead_workers_job_is_taken_back_while_the_broker_hangs(tmp_path: Path) -> None:
    with deployed(tmp_path, lease_seconds=2.0) as one:
        one.instance.up("serve")
        worker = one.instance.run("worker")
        one.instance.create()
        job_id = one.instance.submit("learn", labels=["0"], steps=100_000)
        one.instance.worker_in_training(job_id)
        one.redis.suspend()
        stop(worker, signal.SIGKILL)
        one.instance.wait_until(job_id, lambda job: job.state == "queued", seconds=15)
        one.redis.resume()
        one.instance.run("worker")
        one.instance.wait_until(job_id, lambda job: job.attempt == 2 and job.progress)


def test_a_worker_receives_jobs_again_after_its_broker_hung_or_died(tmp_path: Path) -> None:
    with deployed(tmp_path) as one:
        one.instance.up()
        one.instance.create()
        workers = {one.instance.succeeded(one.instance.submit("learn", labels=["0"], steps=1)).worker}
        one.redis.suspend()
        hung = one.instance.submit("learn", labels=["1"], steps=1)
        wait_for(
            "the broker is seen to hang", lambda: "message could not be sent" in one.instance.log.read_text()
        )
        one.redis.resume()
        workers.add(one.instance.succeeded(hung).worker)
        one.redis.kill()
        died = one.instance.submit("learn", labels=["2"], steps=1)
        one.redis.start()
        workers.add(one.instance.succeeded(died).worker)
        assert len(workers) == 1


def test_a_submit_whose_commit_was_not_answered_is_answered_with_its_job(served: Deployed) -> None:
    """The row is committed, and the connection is cut before PostgreSQL's answer arrives."""
    instance = served.instance
    cut = served.proxy.lose_next_answer_to(b"INSERT INTO jobs")
    answered = httpx2.post(f"{instance.url}/v1/models/m/learn", json={"labels": ["0"]}, timeout=30)
    assert cut.is_set()
    assert answered.status_code == 503, "the connection was cut before COMMIT: there is no job"
    assert instance.request("GET", "/v1/jobs", status=200)["data"] == []
    lost = served.proxy.lose_next_answer_to(b"COMMIT", after=b"INSERT INTO jobs")
    job = httpx2.post(f"{instance.url}/v1/models/m/learn", json={"labels": ["0"]}, timeout=30)
    assert lost.is_set()
    assert job.status_code == 202, job.text
    listed = instance.request("GET", "/v1/jobs", status=200)["data"]
    assert [one["id"] for one in listed] == [job.json()["id"]]
