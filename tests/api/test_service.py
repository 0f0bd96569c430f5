"""The service as a whole: health, request ids, unexpected errors, and the OpenAPI document."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import update

from service.api.documented_errors import codes_of
from service.registry import jobs
from service.registry.database import from_now
from service.registry.errors import DatabaseUnavailable
from service.registry.tables import JobRow
from service.settings import Settings
from tests.api.offered import CATALOG
from tests.api.serving import Served, serving
from tests.service.test_logs import json_lines


def test_the_service_imports_no_torch() -> None:
    code = "import service.api.app, sys; assert not {'torch', 'onnx', 'sklearn', 'worker'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_the_catalog_is_served_as_it_is(served: Served) -> None:
    datasets = served.http.get("/v1/datasets").json()
    assert [one["name"] for one in datasets["data"]] == ["mnist", "letters"]
    assert served.http.get("/v1/catalog").json() == CATALOG.model_dump(mode="json")


def test_a_healthy_service_is_alive_and_ready(served: Served) -> None:
    assert served.http.get("/livez").json() == {"status": "alive"}
    ready = served.http.get("/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")
    assert set(ready.json()["checks"].values()) == {"ok"}


def test_jobs_that_no_worker_takes_make_the_service_degraded(tmp_path: Path) -> None:
    with serving(Settings(home=tmp_path / "home")) as served:
        served.model("digits")
        job = served.submit("digits", "learn", labels=["1"])
        assert served.http.get("/readyz").json()["status"] == "ready", "the job was queued a moment ago"
        with served.worker.database.transaction() as session:
            session.execute(update(JobRow).values(created_at=from_now(-60)))
        ready = served.http.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
        assert "no worker takes them" in ready.json()["checks"]["worker"]
        served.worker.claim(job["id"])
        assert served.http.get("/readyz").json()["status"] == "ready"


@pytest.mark.parametrize("path", ["/", "/livez", "/v1/models", "/v1/models/nobody"])
def test_head_answers_as_get_does_without_the_body(served: Served, path: str) -> None:
    whole, head = served.http.get(path), served.http.head(path)
    assert (head.status_code, head.content) == (whole.status_code, b"")
    for header in ("Content-Type", "Content-Length", "ETag"):
        assert head.headers.get(header) == whole.headers.get(header)


def test_a_wrong_method_is_answered_with_the_allowed_ones(served: Served) -> None:
    assert served.http.put("/v1/models").headers["Allow"] == "HEAD, GET, POST"
    assert served.http.get("/v1/models/any/learn").headers["Allow"] == "POST"


@pytest.mark.parametrize("sent", ["abc-123", "job:7.x_y", "a" * 128])
def test_a_request_id_of_the_client_comes_back(served: Served, sent: str) -> None:
    answer = served.http.get("/v1/models/nobody", headers={"X-Request-Id": sent})
    assert answer.headers["X-Request-Id"] == answer.json()["request_id"] == sent


@pytest.mark.parametrize("sent", ["", "a b", "a" * 129, "<script>", "é", '"'])
def test_a_request_id_that_cannot_be_logged_is_replaced(served: Served, sent: str) -> None:
    answer = served.http.get("/livez", headers={b"X-Request-Id": sent.encode()})
    assert answer.headers["X-Request-Id"].startswith("req_")


def test_of_several_request_ids_the_first_counts(served: Served) -> None:
    sent = [("X-Request-Id", "first"), ("X-Request-Id", "second")]
    answer = served.http.get("/v1/models/nobody", headers=sent)
    assert answer.headers.get_list("X-Request-Id") == [answer.json()["request_id"]] == ["first"]


def test_the_request_id_is_recorded_with_the_job(served: Served, name: str) -> None:
    served.model(name)
    answer = served.http.post(
        f"/v1/models/{name}/learn", json={"labels": ["1"]}, headers={"X-Request-Id": "mine"}
    )
    with served.worker.database.reading() as session:
        assert jobs.find(session, answer.json()["id"]).request_id == "mine"


def test_an_unexpected_error_is_a_500_that_reveals_nothing(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("secret: the key is under the mat")

    monkeypatch.setattr("service.registry.models.find", broken)
    answer = served.http.get("/v1/models/any")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["request_id"] == answer.headers["X-Request-Id"]
    assert "secret" not in answer.text
    assert "ZeroDivision" not in answer.text
    assert answer.headers["X-Request-Id"] in caplog.text, "the log has the trace under the request id"
    assert "ZeroDivisionError" in caplog.text
    monkeypatch.undo()
    assert served.http.get("/v1/models/any").status_code == 404


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize(
    ("sent", "logged"),
    [
        ([f"00-{TRACE}-00f067aa0ba902b7-01"], TRACE),
        ([f"cc-{TRACE}-00f067aa0ba902b7-00-what-comes-later"], TRACE),
        ([], None),
        ([f"00-{TRACE}-00f067aa0ba902b7-01-more"], None),
        ([f"ff-{TRACE}-00f067aa0ba902b7-01"], None),
        ([f"00-{TRACE.upper()}-00f067aa0ba902b7-01"], None),
        ([f"00-{'0' * 32}-00f067aa0ba902b7-01"], None),
        ([f"00-{TRACE}-{'0' * 16}-01"], None),
        ([f"00-{TRACE}-00f067aa0ba902b7-01"] * 2, None),
        (["nonsense"], None),
    ],
)
def test_the_log_has_the_trace_id_of_a_valid_traceparent_and_an_invalid_one_is_ignored(
    served: Served,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    sent: list[str],
    logged: str | None,
) -> None:
    monkeypatch.setattr("service.registry.models.find", lambda *_, **__: 1 / 0)
    with json_lines():
        answer = served.http.get("/v1/models/any", headers=[("traceparent", one) for one in sent])
    assert answer.status_code == 500
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    [line] = [one for one in lines if one["request_id"] == answer.headers["X-Request-Id"]]
    assert line["trace_id"] == logged


def test_an_unavailable_database_is_a_503_with_retry_after(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise DatabaseUnavailable("connection to server at 10.0.0.7 refused")

    monkeypatch.setattr("service.registry.models.find", away)
    answer = served.http.get("/v1/models/any")
    assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
    assert int(answer.headers["Retry-After"]) >= 1
    assert "10.0.0.7" not in answer.text


def test_a_service_without_its_database_is_alive_and_not_ready(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with serving(Settings(home=home)) as served:
        served.worker.database.dispose()
        served.app.state.context.database.dispose()
        for file in home.glob("palimpsest.db*"):
            file.unlink()
        ready = served.http.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (503, "unavailable")
        assert ready.json()["checks"]["database"] != "ok"
        assert served.http.get("/livez").status_code == 200
        assert served.http.get("/v1/models").json()["code"] == "database_unavailable"
        assert str(home) not in ready.text


def test_the_service_survives_an_interrupted_body(served: Served) -> None:
    def halves() -> Any:
        yield b'{"name": "half'
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        served.http.post("/v1/models", content=halves(), headers={"Content-Type": "application/json"})
    assert served.http.get("/v1/models").status_code == 200


SAMPLES_OF_PARAMETERS = {
    "model": "documented",
    "number": "1",
    "dataset": "mnist",
    "label": "1",
    "seed": "0",
    "name": "decoder.onnx",
    "alias": "production",
    "job": "{job}",
    "sample": "{sample}",
    "key": "key_0",
    "project": "default",
}


@pytest.fixture(scope="module")
def documented(served: Served) -> dict[str, Any]:
    """Return the OpenAPI document of a service that has one of everything."""
    served.model("documented")
    served.done("documented", "learn", labels=["1", "2"])
    SAMPLES_OF_PARAMETERS["job"] = served.http.get("/v1/jobs?limit=1").json()["data"][0]["id"]
    answer = served.http.post("/v1/models/documented/samples", json={"labels": ["1"]})
    SAMPLES_OF_PARAMETERS["sample"] = answer.headers["X-Sample-Id"]
    return dict(served.http.get("/openapi.json").json())


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (verb, path, operation)
        for path, verbs in document["paths"].items()
        for verb, operation in verbs.items()
    ]


def test_the_openapi_document_has_every_endpoint(documented: dict[str, Any]) -> None:
    named = {f"{verb.upper()} {path}" for verb, path, _ in operations(documented)}
    assert named == {
        "POST /v1/models",
        "GET /v1/models",
        "GET /v1/models/{model}",
        "PATCH /v1/models/{model}",
        "PATCH /v1/models/{model}/versions/{number}",
        "POST /v1/models/{model}/learn",
        "POST /v1/models/{model}/forget",
        "POST /v1/models/{model}/resize",
        "POST /v1/models/{model}/samples",
        "GET /v1/samples",
        "GET /v1/samples/{sample}",
        "DELETE /v1/samples/{sample}",
        "DELETE /v1/models/{model}/versions/{number}",
        "GET /v1/samples/{sample}/images",
        "GET /v1/models/{model}/versions",
        "GET /v1/models/{model}/versions/{number}",
        "GET /v1/models/{model}/versions/{number}/report",
        "GET /v1/models/{model}/versions/{number}/lineage",
        "GET /v1/models/{model}/versions/{number}/files/{name}",
        "GET /v1/models/{model}/versions/{number}/images/{label}/{seed}.png",
        "GET /v1/models/{model}/aliases",
        "GET /v1/models/{model}/aliases/{alias}",
        "PUT /v1/models/{model}/aliases/{alias}",
        "DELETE /v1/models/{model}/aliases/{alias}",
        "GET /v1/models/{model}/aliases/{alias}/history",
        "POST /v1/models/{model}/aliases/{alias}/rollback",
        "GET /v1/jobs",
        "GET /v1/jobs/{job}",
        "GET /v1/jobs/{job}/receipt",
        "GET /v1/keys/signing",
        "DELETE /v1/datasets/{dataset}/labels/{label}",
        "GET /v1/datasets/{dataset}/labels/{label}/examples/{index}.png",
        "GET /v1/signing-keys",
        "GET /v1/audit",
        "POST /v1/keys",
        "GET /v1/keys",
        "GET /v1/keys/{key}",
        "DELETE /v1/keys/{key}",
        "POST /v1/projects",
        "GET /v1/projects",
        "GET /v1/projects/{project}",
        "DELETE /v1/projects/{project}",
        "POST /v1/session",
        "DELETE /v1/session",
        "POST /v1/jobs/{job}/cancel",
        "POST /v1/jobs/{job}/retry",
        "GET /v1/jobs/{job}/events",
        "POST /v1/webhooks",
        "GET /v1/webhooks",
        "GET /v1/webhooks/{webhook}",
        "DELETE /v1/webhooks/{webhook}",
        "GET /v1/webhooks/{webhook}/deliveries",
        "GET /v1/webhooks/{webhook}/deliveries/{delivery}",
        "POST /v1/webhooks/{webhook}/test",
        "GET /v1/datasets",
        "GET /v1/datasets/{dataset}",
        "PUT /v1/datasets/{dataset}",
        "DELETE /v1/datasets/{dataset}",
        "DELETE /v1/models/{model}",
        "GET /v1/models/{model}/deletion",
        "GET /v1/models/{model}/deletion/receipt",
        "GET /v1/catalog",
        "GET /v1/catalog/report-schema",
        "POST /v1/models/{model}/evaluate",
        "GET /v1/models/{model}/relapse",
        "GET /v1/models/{model}/compare",
        "GET /v1/jobs/{job}/report",
        "GET /v1/jobs/{job}/report/recovered/{label}/{network}.png",
        "POST /v1/models/{model}/exports",
        "GET /v1/exports",
        "GET /v1/exports/{export}",
        "POST /v1/exports/{export}/cancel",
        "DELETE /v1/exports/{export}",
        "GET /v1/exports/{export}/shards",
        "GET /v1/exports/{export}/shards/{number}",
        "GET /v1/exports/{export}/manifest",
        "GET /livez",
        "GET /readyz",
        "GET /metrics",
    }


ELSEWHERE = ("route_not_found", "method_not_allowed")
"""The codes of a URL that a strange name makes another one, as `..` does."""
STRANGE = [
    "",
    "x",
    "0",
    "-1",
    "1e5",
    "9" * 40,
    "%00",
    "%ff",
    "a b",
    "..",
    "%2e%2e",
    "'; --",
    "null",
    "[]",
    "é",
]
BODIES: list[bytes] = [
    b"", b"{", b"null", b"[]", b"{}", b'"x"', b"1e999", b'{"labels": ["1"], "count": 1}',
    b'{"labels": [0]}', b'{"labels": ["1"], "params": {"steps": 1e300}}', b'{"labels": ["1"], "seed": 1.0}',
    b'{"name": "", "dataset": ""}', b'{"name": {}, "dataset": []}', b'{"policy": "prune"}', b'{"\\u0000": 1}',
]  # fmt: skip


def test_every_endpoint_answers_strange_requests_with_a_documented_status(
    served: Served, documented: dict[str, Any]
) -> None:
    answered = 0
    for verb, path, operation in operations(documented):
        allowed = {int(status) for status in operation["responses"]}
        for request in requests(served.http, verb, path, operation):
            answer = served.http.send(request)
            answered += 1
            elsewhere = answer.status_code in (404, 405) and answer.json()["code"] in ELSEWHERE
            assert answer.status_code in allowed | {304} or elsewhere, f"{verb} {request.url}: {answer.text}"
            assert answer.status_code < 500, f"{verb} {request.url}: {answer.text}"
            if answer.status_code >= 400:
                assert answer.headers["Content-Type"] == "application/problem+json"
                assert elsewhere or answer.status_code in codes_of(documented, operation)
    assert answered > 500


def requests(http: httpx2.Client, verb: str, path: str, operation: dict[str, Any]) -> list[httpx2.Request]:
    """Return the good request, then requests with one strange value in each parameter, and strange bodies."""
    good = path
    for name, value in SAMPLES_OF_PARAMETERS.items():
        good = good.replace(f"{{{name}}}", value)
    paths = [good]
    for parameter in operation.get("parameters", ()):
        if parameter["in"] == "path":
            whole = SAMPLES_OF_PARAMETERS | {parameter["name"]: "{strange}"}
            template = path
            for name, value in whole.items():
                template = template.replace(f"{{{name}}}", value)
            paths += [template.replace("{strange}", strange) for strange in STRANGE]
        elif parameter["in"] == "query":
            paths += [f"{good}?{parameter['name']}={strange}" for strange in STRANGE]
    bodies = BODIES if "requestBody" in operation else [b""]
    headers = {"Content-Type": "application/json"} if "requestBody" in operation else {}
    return [
        http.build_request(verb.upper(), one, content=body or None, headers=headers)
        for one in paths
        for body in (bodies if one == good else bodies[-1:])
    ]


def test_the_openapi_document_has_everything_it_refers_to(documented: dict[str, Any]) -> None:
    described = {
        f"#/components/{kind}/{name}" for kind, one in documented["components"].items() for name in one
    }

    def references(node: Any) -> list[str]:
        if isinstance(node, dict):
            own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
            parts = [value for key, value in node.items() if key not in ("example", "examples")]
            return own + [found for part in parts for found in references(part)]
        if isinstance(node, list):
            return [found for value in node for found in references(value)]
        return []

    assert set(references(documented)) <= described


@pytest.mark.parametrize(
    ("path", "accept"),
    [("/", "text/html"), ("/console/style.css", "text/css"), ("/", "text/html,*/*;q=0.8")],
)
def test_a_page_is_served_to_a_client_that_accepts_it(served: Served, path: str, accept: str) -> None:
    answer = served.http.get(path, headers={"Accept": accept})
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith(accept.split(",")[0])
