"""What /openapi.json tells is true: no request finds an error of the server, or a rule that it does not tell.

Schemathesis makes the requests. Half of them fit the document, half break it. In some, an example of what the
deployment holds takes the place of a made-up name, so that they get beyond the 404.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias
from uuid import uuid4

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from hypothesis.stateful import run_state_machine_as_test
from jsonschema import Draft202012Validator
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.core.transport import Response
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    status_code_conformance,
)

from service.api.documented_errors import codes_of
from service.registry import projects
from service.requests.rules import GENERAL
from service.settings import Settings
from tests.api.serving import Served, serving
from tests.api.test_access import locked, new_key

__all__ = ["locked"]

schemathesis.serializer.alias("application/zip", "application/octet-stream")

AnyCase: TypeAlias = Case[Any]
Operation: TypeAlias = APIOperation[Any, Any, Any, Any]
BOUNDED = settings(
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance]
USABLE: dict[str, Any] = {
    "dataset": "mnist",
    "labels": ["1"],
    "network": {},
    "params": {},
    "as": {},
    "strategy": None,
    "retention": "permanent",
    "expires_in": None,
    "base_version": None,
    "resize": {"policy": "prune"},
}
REQUEST_HEADERS = ("X-Request-Id", "traceparent", "If-None-Match", "Prefer")
"""Headers that change nothing of what a request does."""
STATE = {401, 403, 404, 409, 410, 412, 416, 428, 429}
"""The statuses that depend on what the deployment holds, and on the key."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that requires a key, with some of everything that a path can name."""
    home = tmp_path_factory.mktemp("home")
    with serving(Settings(home=home, auth="on", requests_per_second=0)) as served:
        served.http.headers["Authorization"] = f"Bearer {new_key(served)}"
        yield served


@pytest.fixture(scope="module")
def held(served: Served) -> dict[str, list[Any]]:
    """{name of a parameter or field: values that the deployment knows}."""
    served.model("digits")
    learned = served.done("digits", "learn", labels=["1", "2", "7"])
    forgotten = served.done("digits", "forget", labels=["2"])
    queued = served.submit("digits", "learn", labels=["5"])
    sample = served.http.post("/v1/models/digits/samples", json={"labels": ["1"], "seed": 1})
    served.http.put("/v1/models/digits/aliases/production", json={"version": 2}).raise_for_status()
    key = served.http.post("/v1/keys", json={"name": "reader", "scopes": ["read"]}).json()
    return {
        "model": ["digits"],
        "number": ["1", "2", "head", "production"],
        "version": [1, 2, "head", "production"],
        "alias": ["production"],
        "from": [1],
        "to": [2, "production"],
        "job": [learned.job_id, forgotten.job_id, queued["id"]],
        "after": [queued["id"]],
        "sample": [sample.headers["X-Sample-Id"]],
        "project": ["default"],
        "dataset": ["mnist"],
        "key": [key["id"]],
        "label": ["1", "2", "3"],
        "labels": [["1"], ["3"], ["1", "7"], ["2"]],
        "as": [{}],
        "params": [{}],
        "strategy": [None],
        "base_version": [None, 2],
        "name": ["manifest.json", "decoder.onnx"],
        "seed": [0, 7],
    }


@pytest.mark.parametrize(
    ("fitting", "unfitting"), [(4, 2), pytest.param(40, 20, marks=pytest.mark.slow, id="many")]
)
def test_no_request_finds_an_error_or_an_untold_rule(
    served: Served, held: dict[str, list[Any]], fitting: int, unfitting: int
) -> None:
    document = served.http.get("/openapi.json").json()
    found = [
        failure
        for operation in _operations(document)
        for mode, count in ((GenerationMode.POSITIVE, fitting), (GenerationMode.NEGATIVE, unfitting))
        for failure in _failures(served, document, operation, held, mode, count)
    ]
    assert not found, "\n\n".join(found)


@pytest.mark.slow
def test_no_chain_of_requests_finds_an_error(tmp_path: Path) -> None:
    """Follow the links of the document: what one request makes, the next ones use."""
    succeeded: Counter[str] = Counter()
    with serving(Settings(home=tmp_path, auth="on", requests_per_second=0)) as served:
        schema = schemathesis.openapi.from_dict(served.http.get("/openapi.json").json())
        schema.config.update(base_url=served.address)

        class Chains(schema.as_state_machine()):  # type: ignore[misc]
            def setup(self) -> None:
                """Begin with an empty project, so that the same requests get the same answers."""
                self.project = f"p{uuid4().hex}"
                with served.worker.database.transaction() as session:
                    projects.create(session, self.project)

            def before_call(self, case: AnyCase) -> None:
                """Name a dataset and labels that there are. Leave made-up headers out."""
                body: Any = case.body
                for name, value in USABLE.items() if isinstance(body, dict) else ():
                    if name in body:
                        body[name] = value
                for name in (*REQUEST_HEADERS, "Palimpsest-Project"):
                    case.headers.pop(name, None)

            def get_call_kwargs(self, case: AnyCase) -> dict[str, Any]:
                """Send a key of its own with every request: some requests revoke all keys they find."""
                return {"headers": {"Authorization": f"Bearer {new_key(served, project=self.project)}"}}

            def validate_response(self, response: Response, case: AnyCase, **_: Any) -> None:
                case.validate_response(response, checks=CHECKS)
                succeeded[case.operation.label] += response.status_code < 300

        bounds = settings(BOUNDED, max_examples=50, stateful_step_count=30)
        run_state_machine_as_test(Chains, settings=bounds)
    linked = {"GET /v1/models/{model}", "GET /v1/jobs/{job}", "GET /v1/keys/{key}"}
    assert not [label for label in linked if not succeeded[label]]


def test_a_whole_number_may_have_a_decimal_point(served: Served) -> None:
    body = b'{"name": "whole", "dataset": "mnist", "seed": 7.0}'
    answer = served.http.post("/v1/models", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["seed"]) == (201, 7)


@pytest.mark.parametrize("text", ["%00", "a%00b", "%ED%A0%80", "%FF", "%E2%80%AE"])
def test_no_text_in_a_url_is_an_error_of_the_database(locked: Served, text: str) -> None:
    document = locked.http.get("/openapi.json").json()
    answers = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            url = re.sub(r"\{\w+\}", text, path)
            query = [one["name"] for one in operation.get("parameters", []) if one["in"] == "query"]
            body: dict[str, str] | None = {} if "requestBody" in operation else None
            for suffix in ["", *(f"?{name}={text}" for name in query)]:
                answers[f"{method} {url}{suffix}"] = locked.http.request(method, url + suffix, json=body)
    assert {name: one.text for name, one in answers.items() if one.status_code >= 500} == {}
    named = {name: one.status_code for name, one in answers.items() if name.startswith("get /v1/projects/")}
    assert set(named.values()) == {404}


@pytest.mark.parametrize("project", ["a\x00b", "\ud800"])
def test_no_project_in_a_body_is_an_error_of_the_database(locked: Served, project: str) -> None:
    body = json.dumps({"name": "k", "scopes": ["read"], "project": project})
    answer = locked.http.post("/v1/keys", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 404), answer.text


def _operations(document: dict[str, Any]) -> list[Operation]:
    """Return the operations of the document, those that delete something last."""
    schema = schemathesis.openapi.from_dict(document)
    found = [one.ok() for one in schema.get_all_operations() if isinstance(one, Ok)]
    return sorted(found, key=lambda operation: operation.method.upper() == "DELETE")


def _failures(
    served: Served,
    document: dict[str, Any],
    operation: Operation,
    held: dict[str, list[Any]],
    mode: GenerationMode,
    count: int,
) -> list[str]:
    """Send requests of one operation. Return what is wrong with their answers."""
    found: dict[str, str] = {}
    fits = mode is GenerationMode.POSITIVE
    http = requests.Session()

    @settings(BOUNDED, max_examples=count)
    @given(st.data())
    def send(data: st.DataObject) -> None:
        case = data.draw(operation.as_strategy(generation_mode=mode))
        if fits:
            _use_held(case, held, data)
        headers = {"Authorization": served.http.headers["Authorization"]}
        response = case.call(base_url=served.address, session=http, headers=headers)
        try:
            case.validate_response(response, checks=CHECKS)
        except FailureGroup as error:
            shown = "; ".join(f"{one} {getattr(one, 'message', '')}" for one in error.exceptions)
            found.setdefault(f"{operation.label} {response.status_code}", f"{shown}\n{case.body!r:.500}")
        if broken := _broken_schema(document, operation, response):
            found.setdefault(f"{operation.label} {response.status_code} schema", broken)
        if fits and response.status_code >= 400 and (untold := _untold(document, operation, response.json())):
            place = f"{operation.label} {untold}"
            found.setdefault(
                place, f"{response.text}\n{case.path_parameters} {case.query} {case.body!r:.500}"
            )

    with suppress(Unsatisfiable):  # an operation without parameters cannot be called wrongly
        send()
    return [f"{place}: {what}" for place, what in found.items()]


def _use_held(case: AnyCase, held: dict[str, list[Any]], data: st.DataObject) -> None:
    """Put values that the deployment knows in the place of three quarters of the made-up ones."""
    places: list[Any] = [case.path_parameters, case.query, case.body]
    for place in places:
        for name in place if isinstance(place, dict) else ():
            if name in held and data.draw(st.integers(0, 3)):
                place[name] = data.draw(st.sampled_from(held[name]))
    keeps_project = data.draw(st.integers(0, 7)) == 0
    if case.headers and not keeps_project:
        case.headers.pop("Palimpsest-Project", None)


def _broken_schema(document: dict[str, Any], operation: Operation, response: Response) -> str:
    """Return which rule of its schema an answer in JSON breaks; nothing if it keeps them all.

    Schemathesis 4.32 cannot check this: it takes `prefixItems` for an array of `items`.
    """
    media_type = next(iter(response.headers.get("content-type", ())), "")
    described = operation.definition.raw["responses"].get(str(response.status_code), {}).get("content", {})
    schema = described.get(media_type, {}).get("schema")
    if schema is None or not media_type.endswith("json"):
        return ""
    validator = Draft202012Validator({**schema, "components": document["components"]})
    return "; ".join(f"{one.json_path}: {one.message:.200}" for one in validator.iter_errors(response.json()))


def _untold(document: dict[str, Any], operation: Operation, problem: dict[str, Any]) -> str:
    """Return the rule that a refused request broke, unless the document tells it of this operation."""
    if problem["status"] in STATE:
        return ""
    raw = operation.definition.raw
    codes = codes_of(document, raw)
    rules = raw["responses"]["422"].get("description", "").partition("Or one of these:")[2]
    texts = json.dumps([rules, raw.get("description"), raw.get("parameters"), raw.get("requestBody")])
    every_operation = {*GENERAL, "invalid_text"}  # these follow from the schemas
    described = codes.get(problem["status"], set()) - every_operation | set(re.findall(r"`([a-z_]+)`", texts))
    if problem["code"] in described:
        return ""
    broken = [one for one in problem.get("errors", []) if one["code"] not in described]
    in_catalog = [one for one in broken if one["pointer"].startswith(("/params", "/network"))]
    if broken and len(in_catalog) == len(broken):
        return ""
    return f"{problem['status']} {problem['code']} {[one['pointer'] for one in broken]}"
