"""Every operation of the API has a command, or a reason why it has none."""

import inspect
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest

from palimpsest import Palimpsest, PalimpsestError
from service.api.app import create_app
from service.settings import Settings

ROOT = Path(__file__).resolve().parents[2]

WITHOUT_A_COMMAND = {
    "catalog.report_schema": "for programs that read reports; people read the report itself",
    "images.get": "`palimpsest sample` draws, and records what it drew",
    "keys.get": "`palimpsest keys list` shows all of it",
    "keys.signing": "`palimpsest verify --url` reads all signing keys, the newest included",
    "livez.get": "for supervisors; people ask `palimpsest status`",
    "metrics.get": "for Prometheus",
    "deliveries.get": "one entry of what `palimpsest webhooks deliveries` lists",
    "exports.manifest": "`palimpsest exports download` downloads it with the shards",
    "shards.get": "`palimpsest exports download` downloads all of them",
    "recovered.get": "pictures of the report's page, which `palimpsest report` names",
    "session.create": "the console's login; a command sends a key",
    "session.delete": "the console's login; a command sends a key",
    "signing_keys.list": "`palimpsest verify --url` reads them, without the client",
}


def test_every_operation_has_a_command_or_a_reason(tmp_path: Path) -> None:
    document = create_app(Settings(home=tmp_path)).openapi()
    operations = {
        (method.upper(), path): operation["operationId"]
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    used = {find(operations, *request) for method in methods_in_commands() for request in requests_of(method)}
    assert set(operations.values()) - used == set(WITHOUT_A_COMMAND)


@pytest.mark.parametrize("name", ["models.list", "aliases.set", "receipts.get", "webhooks.deliveries"])
def test_a_method_that_a_command_calls_is_found(name: str) -> None:
    assert name in methods_in_commands()


def methods_in_commands() -> set[str]:
    """Return the client's methods that commands call, such as `models.list`."""
    texts = [file.read_text() for file in (ROOT / "commands").rglob("*.py")]
    return {name for text in texts for name in re.findall(r"session\.client\.(\w+\.\w+)\(", text)}


def requests_of(name: str) -> Iterator[tuple[str, str]]:
    """Call a method of the client with made-up arguments; iterate over the requests that it sends."""
    sent: list[tuple[str, str]] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        sent.append((request.method, request.url.path))
        problem = {"title": "", "status": 404, "detail": "", "code": "alias_not_found"}
        headers = {"Content-Type": "application/problem+json"}
        return httpx2.Response(404, content=json.dumps(problem), headers=headers)

    resource, _, method = name.partition(".")
    with Palimpsest(transport=httpx2.MockTransport(answer)) as client:
        function = getattr(getattr(client, resource), method)
        with suppress(PalimpsestError):
            result = function(**made_up_arguments(function))
            if isinstance(result, Iterator):
                next(result)
    assert sent, f"{name} sends a request"
    yield from sent


def made_up_arguments(function: Any) -> dict[str, Any]:
    """Return a value for each argument that a method needs."""
    needed = [one for one in inspect.signature(function).parameters.values() if one.default is one.empty]
    return {one.name: b"x" if one.name == "archive" else "x" for one in needed}


def find(operations: dict[tuple[str, str], str], method: str, path: str) -> str:
    """Return the operation of a request: that whose path has the fewest parameters."""
    parts = path.split("/")
    fitting = [
        (template.count("{"), name)
        for (verb, template), name in operations.items()
        if verb == method and len(template.split("/")) == len(parts)
        if all(a == b or "{" in a for a, b in zip(template.split("/"), parts, strict=True))
    ]
    return min(fitting)[1]
