"""GET /docs: the API, shown from /openapi.json by Swagger UI; and /docs/errors: every error code.

Both are served without another host. The files of Swagger UI are those of the package fastapi-swagger, which
has nothing else that is used here (docs/decisions/0121-the-reference-is-swagger-ui.md).
"""

from functools import cache
from importlib import resources

from fastapi import APIRouter, Response

from service.api.access import needs_no_key
from service.api.error_kinds import ERRORS_PATH, ROUTE_NOT_FOUND
from service.api.error_page import render_html
from service.api.pages import FILES
from service.api.problems import Problem
from service.api.responses import PAGE_HEADERS, content_security_policy
from service.api.route import Route

router = APIRouter(route_class=Route, include_in_schema=False)

SWAGGER_UI = {
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "swagger-ui.css": "text/css; charset=utf-8",
}
"""{file: its media type}."""
HEADERS = {
    **PAGE_HEADERS,
    # The style sheet of Swagger UI has its pictures in it; the images of an answer are made by its script.
    "Content-Security-Policy": content_security_policy(images="'self' data: blob:"),
}


@router.get("/docs", response_class=Response)
@needs_no_key
async def reference() -> Response:
    """Serve the page that shows every operation."""
    content, media_type = FILES["reference.html"]
    return Response(content, headers=HEADERS, media_type=media_type)


@router.get(ERRORS_PATH, response_class=Response)
@needs_no_key
def errors() -> Response:
    """Serve the page that lists every error code. The `type` of every error leads to it."""
    return Response(render_html(), headers=PAGE_HEADERS, media_type="text/html; charset=utf-8")


@router.get("/docs/{name}", response_class=Response)
@needs_no_key
def swagger_ui_file(name: str) -> Response:
    """Serve a file of Swagger UI."""
    if name not in SWAGGER_UI:
        raise Problem(ROUTE_NOT_FOUND, f"The reference has no file {name[:80]!r}.")
    return Response(_read(name), headers=PAGE_HEADERS, media_type=SWAGGER_UI[name])


@cache
def _read(name: str) -> bytes:
    return resources.files("fastapi_swagger.resources").joinpath(name).read_bytes()
