"""When the broker loses, repeats or corrupts messages, or is down, no job is lost and no worker ends."""

import json
import shutil
import time
from pathlib import Path

import pytest

from service.queue.messages import count_waiting_messages, producer, wake_worker
from service.queue.received import QUEUE
from service.settings import Settings
from tests.faults.servers import own_redis, redis_url
from tests.instance import Instance, instance_of, wait_for

VALID_MESSAGE = {
    "body": "W1sib25lIl0sIHt9LCB7fV0=",
    "content-encoding": "utf-8",
    "content-type": "application/json",
    "headers": {"task": "palimpsest.execute_job", "id": "1", "lang": "py"},
    "properties": {
        "delivery_tag": "1",
        "body_encoding": "base64",
        "delivery_info": {"exchange": "", "routing_key": QUEUE},
    },
}
CORRUPT_MESSAGES = {
    "zero bytes": b"",
    "truncated": json.dumps(VALID_MESSAGE).encode()[:60],
    "not a message": b'{"hello": "world"}',
    "a list": b"[1, 2]",
    "not text": b"\xff\xfe\x00",
    "no headers": json.dumps(VALID_MESSAGE | {"headers": None}).encode(),
    "another task": json.dumps(
        VALID_MESSAGE | {"headers": {"task": "os.system", "id": "1", "lang": "py"}}
    ).encode(),
    "pickle": json.dumps(VALID_MESSAGE | {"content-type": "application/x-python-serialize"}).encode(),
    "a broken body": json.dumps(VALID_MESSAGE | {"body": "!"}).encode(),
    "a body that is no call": json.dumps(VALID_MESSAGE | {"body": "ImhlbGxvIg=="}).encode(),
    "an unknown job": json.dumps(VALID_MESSAGE).encode(),
}


MAX_RESPONSE_SECONDS = 5.0
"""How long a response may take while the broker is down. Celery's own retries would take 6 s."""


def write_message(folder: Path, name: str, content: bytes) -> None:
    """Write a file that looks like the oldest message of the queue."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"0-{name.replace(' ', '-')}.{QUEUE}.msg").write_bytes(content)


@pytest.fixture
def embedded(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", port=0)


def test_messages_in_a_folder_arrive_once_and_in_order(embedded: Settings) -> None:
    for job_id in ("job_1", "job_2"):
        assert wake_worker(job_id, embedded)
    assert count_waiting_messages(embedded) == 2
    received = []
    with producer(embedded.broker_url).connection_for_read() as connection:
        queue = connection.SimpleQueue(QUEUE)
        for _ in range(2):
            message = queue.get(timeout=1)
            received.append(message.payload[0])
            message.ack()
        queue.close()
    assert received == [["job_1"], ["job_2"]]
    assert count_waiting_messages(embedded) == 0
    assert list((embedded.home / "queue").iterdir()) == []


@pytest.mark.parametrize("deployment", ["sqlite+folder"], indirect=True)
def test_corrupt_message_files_neither_end_the_worker_nor_block_its_jobs(instance: Instance) -> None:
    instance.up()
    folder = instance.deployment.home.parent / "queue"
    instance.create()
    first = instance.succeeded(instance.submit("learn", labels=["0"]))
    for name, content in CORRUPT_MESSAGES.items():
        write_message(folder, name, content)
    second = instance.succeeded(instance.submit("learn", labels=["1"]))
    wait_for("the folder is empty", lambda: not list(folder.iterdir()))
    third = instance.succeeded(instance.submit("learn", labels=["2"]))
    assert first.worker == second.worker == third.worker
    assert [job.attempt for job in (first, second, third)] == [1, 1, 1]


@pytest.mark.parametrize("deployment", ["postgresql+redis"], indirect=True)
def test_lost_messages_are_sent_again(instance: Instance) -> None:
    """All messages are deleted before a worker starts."""
    instance.up("serve")
    for number in range(3):
        instance.create(f"m{number}")
    job_ids = [instance.submit("learn", f"m{number}", labels=["0"], steps=1) for number in range(3)]
    producer(instance.deployment.broker_url).connection_for_read().channel().queue_purge(QUEUE)
    instance.run("worker")
    for job_id in job_ids:
        assert instance.succeeded(job_id).attempt == 1


@pytest.mark.parametrize("deployment", ["postgresql+redis"], indirect=True)
def test_a_job_with_many_messages_and_two_workers_runs_once(instance: Instance) -> None:
    instance.up()
    instance.run("worker")
    models = [instance.create(f"m{number}") for number in range(4)]
    job_ids = [instance.submit("learn", f"m{number}", labels=["0"], steps=20) for number in range(4)]
    for job_id in job_ids * 5:
        wake_worker(job_id, instance.deployment)
    assert [instance.succeeded(job_id).attempt for job_id in job_ids] == [1] * 4
    assert [len(instance.versions(model_id)) for model_id in models] == [1] * 4


@pytest.mark.parametrize("deployment", ["sqlite+folder"], indirect=True)
def test_a_folder_that_cannot_be_written_delays_the_job_but_not_the_response(instance: Instance) -> None:
    instance.up()
    instance.create()
    instance.succeeded(instance.submit("learn", labels=["0"]))
    folder = instance.deployment.home.parent / "queue"
    shutil.rmtree(folder)
    folder.write_text("in the way")
    job_id = submit_while_the_broker_is_down(instance)
    assert instance.job(job_id).state == "queued"
    folder.unlink()
    assert instance.succeeded(job_id).attempt == 1


def test_redis_that_is_down_delays_the_job_but_not_the_response(tmp_path: Path) -> None:
    with own_redis() as server:
        deployment = Settings(home=tmp_path / "home", broker_url=redis_url(server), port=0)
        with instance_of(deployment, tmp_path) as instance:
            instance.up()
            instance.create()
            first = instance.succeeded(instance.submit("learn", labels=["0"]))
            server.kill()
            job_id = submit_while_the_broker_is_down(instance)
            assert instance.job(job_id).state == "queued"
            server.start()
            second = instance.succeeded(job_id)
            assert (second.attempt, second.worker) == (1, first.worker)


def submit_while_the_broker_is_down(instance: Instance) -> str:
    """Submit a job; fail if the response takes too long. Returns the id of the job."""
    begun = time.monotonic()
    job_id = instance.submit("learn", labels=["1"])
    assert time.monotonic() - begun < MAX_RESPONSE_SECONDS
    return job_id
