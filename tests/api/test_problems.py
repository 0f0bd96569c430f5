"""Every bad input is answered with problem+json, changes no row, and does no harm to the next request."""

import json

import httpx2
import pytest

from tests.api.bad_inputs import TABLE, Bad
from tests.api.serving import Served

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def names(served: Served) -> dict[str, str]:
    """A model that learned 1, 2, 3 and forgot 3, and one that learned nothing."""
    served.model("table")
    served.done("table", "learn", labels=["1", "2", "3"])
    served.done("table", "forget", labels=["3"])
    served.model("table-empty")
    return {"{m}": "table", "{empty}": "table-empty"}


@pytest.mark.parametrize("bad", TABLE, ids=[f"{bad.path} {bad.name}" for bad in TABLE])
def test_a_bad_input_is_refused_with_the_reason_and_changes_nothing(
    served: Served, names: dict[str, str], bad: Bad
) -> None:
    before = served.counts()
    answer = send(served.http, bad, names)
    problem = answer.json()
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert (answer.status_code, problem["code"]) == (bad.status, bad.code), problem
    assert problem["status"] == bad.status
    assert set(problem) - {"errors", "job"} == {
        "type", "title", "status", "detail", "instance", "code", "request_id"
    }  # fmt: skip
    assert problem["request_id"] == answer.headers["X-Request-Id"]
    assert tuple(error["pointer"] for error in problem.get("errors", ())) == bad.pointers
    assert bool(problem.get("errors")) == (bad.status == 422)
    assert ("Allow" in answer.headers) == (bad.status == 405)
    assert len(answer.content) < 20_000
    assert not any(word in answer.text for word in ("Traceback", "site-packages", "sqlalchemy", ".py"))
    assert served.counts() == before
    assert served.http.get("/v1/models/table").json()["head"] == 2, "a normal request still works"


@pytest.mark.parametrize("header", ["Palimpsest-Projects", "Palimpsest-Project", "Last-Event-ID"])
def test_the_refusal_names_the_header(served: Served, header: str) -> None:
    problem = served.http.get("/livez", headers={header: "1"}).json()
    assert header.lower() in problem["detail"].lower()


def send(http: httpx2.Client, bad: Bad, names: dict[str, str]) -> httpx2.Response:
    path = bad.path
    for placeholder, name in names.items():
        path = path.replace(placeholder, name)
    if bad.body is None:
        return http.request(bad.method, path, headers=bad.headers)
    body = bad.body if isinstance(bad.body, bytes) else json.dumps(bad.body).encode()
    for placeholder, name in names.items():
        body = body.replace(placeholder.encode(), name.encode())
    return http.request(bad.method, path, content=body, headers=JSON | bad.headers)
