"""What /openapi.json shows as examples: a request and an answer of every operation, as a server gave it.

service/api/documented_examples.json has them. `make pages` records them anew (tests/api/record_examples.py),
and a test holds each against its schema.
"""

import json
from pathlib import Path
from typing import Any

EXAMPLES_FILE = Path(__file__).parent / "documented_examples.json"


def add_examples(paths: dict[str, dict[str, Any]]) -> None:
    """Add to every operation the example that was recorded of it."""
    examples = json.loads(EXAMPLES_FILE.read_text())
    for operations in paths.values():
        for operation in operations.values():
            if example := examples.get(operation["operationId"]):
                _add(operation, example)


def _add(operation: dict[str, Any], example: dict[str, Any]) -> None:
    for parameter in operation.get("parameters", ()):
        value = example["parameters"].get(parameter["name"]) if parameter["in"] == "path" else None
        if value is not None:
            parameter["example"] = int(value) if parameter["schema"].get("type") == "integer" else value
    if "request" in example:
        for content in operation["requestBody"]["content"].values():
            content["example"] = example["request"]
    if "response" in example:
        described = operation["responses"][str(example["status"])]["content"]
        for media_type, content in described.items():
            if media_type.endswith(("json", "+dsse")):
                content["example"] = example["response"]
