"""GET /openapi.json: FastAPI's document, with the schema of the problem documents added to it."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from service.api.problems import ProblemDocument


def document(app: FastAPI) -> None:
    """Have `app` describe the problem documents that its endpoints refer to."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _described(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _described(app: FastAPI) -> dict[str, Any]:
    described = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
    schema = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
    described["components"]["schemas"] |= {**schema.pop("$defs"), "ProblemDocument": schema}
    return described
