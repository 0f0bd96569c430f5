"""Whatever is in the list in Redis, a worker goes on, and the next job runs at once."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from service.queue.received import QUEUE, build_message
from service.settings import Settings
from tests.faults.servers import Server, own_redis, redis_url
from tests.instance import Instance, instance_of, wait_for

VALID = build_message("job_of_nobody")


def changed(**fields: object) -> bytes:
    return json.dumps(VALID | {name.replace("_", "-"): value for name, value in fields.items()}).encode()


def with_headers(**headers: object) -> bytes:
    return changed(headers=VALID["headers"] | headers)


def with_body(text: str) -> bytes:
    return changed(body=base64.b64encode(text.encode()).decode())


GARBAGE = {
    "a brace": b"{",
    "nothing": b"",
    "null": b"null",
    "a list": b"[]",
    "a number": b"5",
    "text": b'"text"',
    "not text": b"\xff\xfe\x00",
    "truncated": changed()[:60],
    "an empty object": b"{}",
    "deeply nested": b"[" * 5000,
    "a very large number": b"1" * 5000,
    "very long": b'"' + b"x" * 5_000_000 + b'"',
    "a body that is a number": changed(body=5),
    "a body that is no call": with_body("5"),
    "a body that is not base64": changed(body="!"),
    "a call without a job": with_body("[[], {}, {}]"),
    "a call with a number": with_body("[[5], {}, {}]"),
    "a call with a name": with_body('[["job_1"], {"a": 1}, {}]'),
    "a job with a zero byte": with_body('[["job_\\u0000"], {}, {}]'),
    "no headers": changed(headers=None),
    "another task": with_headers(task="os.system"),
    "an id that is a number": with_headers(id=5),
    "a time that is none": with_headers(eta="yesterday"),
    "an expiry that is none": with_headers(expires="never"),
    "a time limit that is none": with_headers(timelimit=5),
    "a group that is a number": with_headers(group=5),
    "pickle": changed(content_type="application/x-python-serialize"),
    "an unknown content type": changed(content_type="text/x-unknown"),
    "a content type that is a number": changed(content_type=5),
    "an unknown encoding": changed(content_encoding="utf-99"),
    "no properties": changed(properties=None),
    "no delivery tag": changed(properties={}),
    "an unknown body encoding": changed(properties=VALID["properties"] | {"body_encoding": "rot13"}),
}


@pytest.fixture
def server() -> Iterator[Server]:
    with own_redis() as server:
        yield server


@pytest.fixture
def instance(server: Server, tmp_path: Path) -> Iterator[Instance]:
    with instance_of(Settings(home=tmp_path / "home", broker_url=redis_url(server), port=0), tmp_path) as one:
        yield one


def test_garbage_is_dropped_and_the_next_job_runs_at_once_in_the_same_worker(
    instance: Instance, server: Server
) -> None:
    instance.up("serve")
    worker = instance.run("worker")
    instance.create()
    first = instance.succeeded(instance.submit("learn", labels=["0"], steps=1))
    with redis.Redis(port=server.port) as connection:
        connection.rpush(QUEUE, *GARBAGE.values())
        second = instance.succeeded(instance.submit("learn", labels=["1"], steps=1), seconds=20)
        wait_for("the list is empty", lambda: connection.llen(QUEUE) == 0)
        connection.delete(QUEUE)
        connection.set(QUEUE, "this is not a list")
        third = instance.succeeded(instance.submit("learn", labels=["2"], steps=1), seconds=30)
    assert first.worker == second.worker == third.worker
    assert [job.attempt for job in (first, second, third)] == [1, 1, 1]
    assert worker.poll() is None
