"""`Prefer: wait=N`: the answer waits for the job, and the other clients do not."""

from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from tests.api.serving import Served
from tests.instance import wait_for


def test_prefer_wait_answers_200_once_the_job_is_done(served: Served, name: str) -> None:
    served.model(name)

    def queued() -> list[dict[str, str]]:
        return list(served.http.get(f"/v1/jobs?model={name}&state=queued").json()["data"])

    headers = {"Prefer": "respond-async, wait=60"}
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(
            served.http.post, f"/v1/models/{name}/learn", json={"labels": ["1"]}, headers=headers, timeout=90
        )
        (job,) = wait_for("the job is queued", queued)
        assert not waiting.done()
        served.worker.work(job["id"])
        answer = waiting.result()
    assert (answer.status_code, answer.json()["state"]) == (200, "succeeded")
    assert answer.headers["Preference-Applied"] == "wait=60"
    assert answer.headers["Location"] == f"/v1/jobs/{answer.json()['id']}"


def test_prefer_wait_answers_202_when_the_time_is_over_and_records_one_job(served: Served, name: str) -> None:
    served.model(name)
    answer = served.http.post(
        f"/v1/models/{name}/learn", json={"labels": ["1"]}, headers={"Prefer": "wait=1"}
    )
    assert (answer.status_code, answer.json()["state"]) == (202, "queued")
    assert answer.headers["Preference-Applied"] == "wait=1"
    assert len(served.http.get(f"/v1/jobs?model={name}").json()["data"]) == 1


@pytest.mark.parametrize(
    ("lines", "applied"),
    [
        (["wait=9999999"], "wait=60"),
        ([f"wait={'9' * 100}"], "wait=60"),
        (["wait=007"], "wait=7"),
        (["respond-async", 'wait="5"'], "wait=5"),
        (["wait=4, handling=lenient", "wait=9"], "wait=4"),
        (["wait=0"], "wait=0"),
    ],
)
def test_a_preference_is_read_from_all_lines_and_bounded(
    served: Served, name: str, lines: list[str], applied: str
) -> None:
    served.model(name)
    served.done(name, "learn", labels=["1", "2"])
    served.done(name, "forget", labels=["1"])
    headers = [("Prefer", line) for line in lines]
    answer = served.http.post(f"/v1/models/{name}/forget", json={"labels": ["1"]}, headers=headers)
    assert (answer.status_code, answer.headers["Preference-Applied"]) == (200, applied)


@pytest.mark.parametrize("prefer", ["wait", "wait=", "wait=-1", "wait=soon", "wait=1.5", "nowait=9", ""])
def test_a_malformed_preference_is_ignored(served: Served, name: str, prefer: str) -> None:
    served.model(name)
    answer = served.http.post(f"/v1/models/{name}/learn", json={"labels": ["1"]}, headers={"Prefer": prefer})
    assert answer.status_code == 202
    assert "Preference-Applied" not in answer.headers


def test_many_waiting_clients_keep_nobody_else_waiting(served: Served, name: str) -> None:
    """More clients wait than the server has threads: if each of them held one, no other would be answered."""
    models = [served.model(f"{name}-{i}")["name"] for i in range(6)]
    requests = [(model, str(digit)) for model in models for digit in range(10)]
    crowd = httpx2.Client(base_url=served.address, timeout=120, limits=httpx2.Limits(max_connections=100))

    def wait(request: tuple[str, str]) -> int:
        model, label = request
        body, headers = {"labels": [label]}, {"Prefer": "wait=60"}
        return crowd.post(f"/v1/models/{model}/learn", json=body, headers=headers).status_code

    def queued() -> list[str]:
        listed = [served.http.get(f"/v1/jobs?model={one}&state=queued").json()["data"] for one in models]
        return [job["id"] for jobs in listed for job in jobs]

    with crowd, ThreadPoolExecutor(len(requests)) as pool:
        waiting = [pool.submit(wait, request) for request in requests]
        wait_for("every job is queued", lambda: len(queued()) == len(requests))
        assert served.http.get(f"/v1/models/{models[0]}").status_code == 200
        assert not any(answer.done() for answer in waiting), "the others still wait"
        for job in queued():
            served.http.post(f"/v1/jobs/{job}/cancel")
        assert [answer.result() for answer in waiting] == [200] * len(requests)
