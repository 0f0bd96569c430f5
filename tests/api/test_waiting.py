"""`Prefer: wait=N`: the answer waits for the job, and nobody waits for the answer."""

import threading
import time

import httpx
import pytest

from tests.api.serving import Served


def test_prefer_wait_answers_200_once_the_job_is_done(served: Served, name: str) -> None:
    served.model(name)

    def work_soon() -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            jobs = served.http.get(f"/v1/jobs?model={name}&state=queued").json()["data"]
            if jobs:
                served.worker.work(jobs[0]["id"])
                return
            time.sleep(0.05)

    worker = threading.Thread(target=work_soon)
    worker.start()
    answer = served.http.post(
        f"/v1/models/{name}/learn", json={"labels": ["1"]}, headers={"Prefer": "respond-async, wait=20"}
    )
    worker.join()
    assert (answer.status_code, answer.json()["state"]) == (200, "succeeded")
    assert answer.headers["Preference-Applied"] == "wait=20"
    assert answer.headers["Location"] == f"/v1/jobs/{answer.json()['id']}"


def test_prefer_wait_answers_202_when_patience_ends_and_records_one_job(served: Served, name: str) -> None:
    served.model(name)
    started = time.monotonic()
    answer = served.http.post(
        f"/v1/models/{name}/learn", json={"labels": ["1"]}, headers={"Prefer": "wait=1"}
    )
    assert answer.status_code == 202
    assert 1 <= time.monotonic() - started < 5
    assert len(served.http.get(f"/v1/jobs?model={name}").json()["data"]) == 1


@pytest.mark.parametrize("prefer", ["wait", "wait=", "wait=-1", "wait=soon", "wait=1.5", "nowait=9", ""])
def test_a_preference_that_cannot_be_read_is_none(served: Served, name: str, prefer: str) -> None:
    served.model(name)
    answer = served.http.post(f"/v1/models/{name}/learn", json={"labels": ["1"]}, headers={"Prefer": prefer})
    assert answer.status_code == 202
    assert "Preference-Applied" not in answer.headers


def test_many_waiting_clients_keep_nobody_else_waiting(served: Served, name: str) -> None:
    """More of them than there are threads, so that a wait which held one would hold up everybody."""
    models = [served.model(f"{name}-{i}")["name"] for i in range(6)]
    answers: list[int] = []
    crowd = httpx.Client(base_url=served.address, timeout=60, limits=httpx.Limits(max_connections=100))

    def wait(model: str, label: str) -> None:
        headers = {"Prefer": "wait=5"}
        answer = crowd.post(f"/v1/models/{model}/learn", json={"labels": [label]}, headers=headers)
        answers.append(answer.status_code)

    asked = [(model, str(digit)) for model in models for digit in range(10)]
    threads = [threading.Thread(target=wait, args=each) for each in asked]
    for thread in threads:
        thread.start()
    slowest = 0.0
    while any(thread.is_alive() for thread in threads):
        started = time.monotonic()
        assert served.http.get(f"/v1/models/{models[0]}").status_code == 200
        slowest = max(slowest, time.monotonic() - started)
        time.sleep(0.1)
    crowd.close()
    assert answers == [202] * len(asked)
    assert slowest < 4
