"""Bad requests are refused while another connection holds the write lock; good ones wait for it."""

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import httpx2
import psycopg
import pytest
from sqlalchemy import event
from sqlalchemy.engine import make_url

from service.api.threads import DATABASE_THREADS
from service.registry import jobs, labels, models
from tests.api.bad_inputs import TABLE, Bad
from tests.api.serving import Served
from tests.api.test_problems import send
from tests.job_specs import job_spec

KINDS = {
    "learn": {
        "duplicate_item",
        "unknown_label",
        "dataset_not_found",
        "strategy_not_found",
        "out_of_range",
        "unknown_field",
        "model_not_found",
        "label_already_learned",
        "stale_base",
    },
    "forget": {
        "duplicate_item",
        "unknown_label",
        "strategy_not_found",
        "out_of_range",
        "unknown_field",
        "model_not_found",
        "contradiction",
        "stale_base",
    },
    "resize": {
        "policy_not_found",
        "strategy_not_found",
        "out_of_range",
        "unknown_field",
        "model_not_found",
        "model_has_no_version",
        "stale_base",
    },
    "evaluate": {
        "out_of_range",
        "unknown_field",
        "model_not_found",
        "model_has_no_version",
        "version_not_found",
        "version_revoked",
    },
}


@pytest.fixture(scope="module")
def names(served: Served) -> dict[str, str]:
    """A model that learned 1, 2, 3 and forgot 3, and one that learned nothing."""
    served.model("locked")
    served.done("locked", "learn", labels=["1", "2", "3"])
    served.done("locked", "forget", labels=["3"])
    served.model("locked-empty")
    return {"{m}": "locked", "{empty}": "locked-empty"}


@contextmanager
def write_lock(served: Served, model: str) -> Iterator[None]:
    """Hold what `jobs.submit` needs: the whole database on SQLite, the model's row on PostgreSQL."""
    with served.worker.database.transaction() as session:
        jobs.lock_model(session, models.find(session, model))
        yield


def is_locked(served: Served, model: str) -> bool:
    """Whether a connection that does not wait is refused the lock."""
    url = make_url(served.settings.database_url)
    if url.get_backend_name() == "sqlite":
        with sqlite3.connect(str(url.database), timeout=0, isolation_level=None) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return True
            connection.rollback()
            return False
    address = url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(address) as connection:
        try:
            connection.execute("SELECT 1 FROM models WHERE name = %s FOR UPDATE NOWAIT", [model])
        except psycopg.errors.LockNotAvailable:
            return True
        return False


@pytest.mark.parametrize("operation", list(KINDS))
def test_a_bad_request_is_refused_while_the_write_lock_is_held(
    served: Served, names: dict[str, str], operation: str
) -> None:
    bad_requests = [bad for bad in TABLE if bad.method == "POST" and bad.path.endswith(f"/{operation}")]
    assert KINDS[operation] <= {bad.code for bad in bad_requests}
    with write_lock(served, "locked"), httpx2.Client(base_url=served.address, timeout=10) as http:
        assert is_locked(served, "locked")
        for bad in bad_requests:
            assert refusal(http, bad, names) == (bad.status, bad.code), bad.name


def refusal(http: httpx2.Client, bad: Bad, names: dict[str, str]) -> tuple[int, str]:
    """The answer; a request that waits for the lock ends in a timeout, because the lock is never released."""
    try:
        answer = send(http, bad, names)
    except httpx2.ReadTimeout:
        return 0, "waits for the lock"
    return answer.status_code, answer.json()["code"]


@contextmanager
def waiting_for_the_lock(served: Served) -> Iterator[threading.Event]:
    """Set once the server asks for the write lock."""
    asks = threading.Event()

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement == "BEGIN IMMEDIATE" or "FOR UPDATE" in statement:
            asks.set()

    engine = served.app.state.context.database.engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield asks
    finally:
        event.remove(engine, "before_cursor_execute", note)


def test_a_good_request_waits_for_the_write_lock(served: Served, name: str) -> None:
    served.model(name)
    with ThreadPoolExecutor(1) as pool, waiting_for_the_lock(served) as asks:
        with write_lock(served, name):
            answer = pool.submit(served.http.post, f"/v1/models/{name}/learn", json={"labels": ["1"]})
            assert asks.wait(30)
            assert not answer.done()
        assert answer.result().status_code == 202


def test_reading_goes_on_while_many_requests_wait_for_the_write_lock(served: Served, name: str) -> None:
    served.model(name)
    count = 2 * DATABASE_THREADS
    learn = partial(httpx2.post, f"{served.address}/v1/models/{name}/learn", timeout=30)
    with ThreadPoolExecutor(count) as pool, waiting_for_the_lock(served) as asks:
        with write_lock(served, name):
            answers = [pool.submit(learn, json={"labels": [str(number)]}) for number in range(count)]
            assert asks.wait(30)
            for _ in range(20):
                assert served.http.get(f"/v1/models/{name}").status_code == 200
            assert not any(answer.done() and answer.result().status_code == 202 for answer in answers)
        statuses = {answer.result().status_code for answer in answers}
    assert statuses <= {202, 422, 503}
    assert 202 in statuses


def test_a_request_is_resolved_by_the_statuses_under_the_lock(served: Served, name: str) -> None:
    """Label 1 is temporary when the request arrives, and is to be permanent when the lock is its own."""
    served.model(name)
    served.done(name, "learn", labels=["9"])
    served.done(name, "learn", labels=["1"], retention="temporary")
    with ThreadPoolExecutor(1) as pool, waiting_for_the_lock(served) as asks:
        with served.worker.database.transaction() as session:
            model = jobs.lock_model(session, models.find(session, name))
            answer = pool.submit(served.http.post, f"/v1/models/{name}/forget", json={"labels": ["1"]})
            assert asks.wait(30)
            merge = job_spec("learn", "1", strategy="merge", dataset="mnist")
            statuses = labels.projected_statuses(session, model)
            jobs.submit(session, model, merge, statuses, max_attempts=1)
        job = answer.result()
    assert (job.status_code, job.json()["strategy"]) == (202, "surrogate"), "not drop, for temporary labels"
