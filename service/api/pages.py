"""GET /: the console. Its files in service/console are served as they are, and load no other host.

Every page of the console is the same document: its script shows what belongs to the address.
"""

from importlib import resources
from importlib.resources.abc import Traversable

from fastapi import APIRouter, Response

from service.api.access import needs_no_key
from service.api.error_kinds import ROUTE_NOT_FOUND
from service.api.problems import Problem
from service.api.responses import PAGE_HEADERS, content_security_policy
from service.api.route import Route

CONSOLE_HEADERS = {
    **PAGE_HEADERS,
    "Content-Security-Policy": content_security_policy(images="'self' data:"),
}
"""Of the console: it shows the images of an upload that is not kept, which are in the answer itself."""

router = APIRouter(route_class=Route, include_in_schema=False)

MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
PAGES = (
    "/",
    "/models/{model}",
    "/models/{model}/compare",
    "/models/{model}/relapse",
    "/models/{model}/sample",
    "/jobs",
    "/jobs/{job}",
    "/datasets",
    "/keys",
    "/webhooks",
)
"""The addresses of the console's pages; service/console/main.js says which of its modules shows which."""


def _read_files(folder: Traversable, prefix: str = "") -> dict[str, tuple[bytes, str]]:
    found: dict[str, tuple[bytes, str]] = {}
    for file in folder.iterdir():
        if file.is_dir():
            found |= _read_files(file, f"{prefix}{file.name}/")
        elif (suffix := file.name[file.name.rfind(".") :]) in MEDIA_TYPES:
            found[prefix + file.name] = (file.read_bytes(), MEDIA_TYPES[suffix])
    return found


FILES = _read_files(resources.files("service").joinpath("console"))
"""{path: (content, media type)}, read once when this module is imported."""


@needs_no_key
async def console() -> Response:
    """Serve the HTML document of the console."""
    return _page("index.html")


for _path in PAGES:
    router.add_api_route(_path, console, response_class=Response)


@router.get("/console/{name:path}", response_class=Response)
@needs_no_key
async def console_file(name: str) -> Response:
    """Serve a style sheet, script or picture of the console."""
    if name not in FILES:
        raise Problem(ROUTE_NOT_FOUND, f"The console has no file {name[:80]!r}.")
    return _page(name)


def _page(name: str) -> Response:
    content, media_type = FILES[name]
    return Response(content, headers=CONSOLE_HEADERS, media_type=media_type)
