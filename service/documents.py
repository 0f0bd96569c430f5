"""Write docs/api.md and docs/errors.md from the code: `python -m service.documents docs`."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from service.api.app import create_app
from service.api.documented_errors import codes_of
from service.api.error_kinds import CROSS_SITE_REQUEST, IDEMPOTENCY_KEY_NOT_SUPPORTED, kind_of
from service.api.error_page import render_markdown
from service.api.refusals import EVERYWHERE, WITH_JSON, WITH_SCOPES
from service.settings import Settings

INTRODUCTION = """# The HTTP API

Every operation, with the scope of API key that it needs, and what it answers. A service shows more at
`/docs`: fields, limits and examples. `/openapi.json` is the same for programs. `make pages` writes this
page from the code.

Some errors are not repeated below:

- any operation: {everywhere}
- one that needs a key: {with_scopes}
- POST, PUT, PATCH and DELETE: {with_json}"""


OF_ALL = {kind_of(one).code for one in (*EVERYWHERE, IDEMPOTENCY_KEY_NOT_SUPPORTED)}
OF_KEYS = {kind_of(one).code for one in WITH_SCOPES}
OF_CHANGES = {kind_of(one).code for one in (*WITH_JSON, CROSS_SITE_REQUEST)}


def render_api_page() -> str:
    """Return docs/api.md."""
    document = create_app(Settings(home=Path("/nonexistent"))).openapi()
    sections: dict[str, list[str]] = {tag["name"]: [] for tag in document["tags"]}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            text = "\n\n".join(_describe(document, f"{method.upper()} {path}", operation))
            sections[operation["tags"][0]].append(text)
    everywhere, with_scopes, with_json = (
        ", ".join(_link(code) for code in sorted(codes)) for codes in (OF_ALL, OF_KEYS, OF_CHANGES)
    )
    parts = [INTRODUCTION.format(everywhere=everywhere, with_scopes=with_scopes, with_json=with_json)]
    for tag in document["tags"]:
        parts += [f"## {tag['name'].capitalize()}", tag["description"], *sections[tag["name"]]]
    return "\n\n".join(parts) + "\n"


def _describe(document: dict[str, Any], request: str, operation: dict[str, Any]) -> Iterator[str]:
    """Yield the paragraphs about one operation."""
    yield f"### {operation['operationId']}"
    scopes = sorted({scope for one in operation["security"] for held in one.values() for scope in held})
    needed = f"scope {' or '.join(f'`{scope}`' for scope in scopes)}" if scopes else "needs no key"
    yield f"`{request}` ({needed})"
    yield operation["description"]
    answers = [status for status in operation["responses"] if status < "400"]
    yield f"Answers: {', '.join(answers)}."
    repeated = OF_ALL | OF_CHANGES | (OF_KEYS if scopes else set())
    own = {
        status: [_link(code) for code in sorted(codes - repeated)]
        for status, codes in codes_of(document, operation).items()
    }
    listed = [f"{status} {', '.join(codes)}" for status, codes in own.items() if codes]
    if listed:
        yield f"Errors: {'; '.join(listed)}."


def _link(code: str) -> str:
    return f"[`{code}`](errors.md#{code})"


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    (folder / "api.md").write_text(render_api_page())
    (folder / "errors.md").write_text(render_markdown())
