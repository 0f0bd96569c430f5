"""GET /: the dashboard. Its files in service/dashboard are served as they are, and load no other host."""

from importlib import resources

from fastapi import APIRouter, Response

from service.api.access import needs_no_key
from service.api.problems import Problem
from service.api.responses import PAGE_HEADERS
from service.api.route import Route

router = APIRouter(route_class=Route, include_in_schema=False)

MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def _read_files() -> dict[str, tuple[bytes, str]]:
    folder = resources.files("service").joinpath("dashboard")
    return {
        file.name: (file.read_bytes(), MEDIA_TYPES[suffix])
        for file in folder.iterdir()
        if (suffix := file.name[file.name.rfind(".") :]) in MEDIA_TYPES
    }


FILES = _read_files()
"""{file name: (content, media type)}, read once when this module is imported."""


@router.get("/", response_class=Response)
@needs_no_key
async def dashboard() -> Response:
    """Serve the HTML page of the dashboard."""
    return _page("index.html")


@router.get("/dashboard/{name}", response_class=Response)
@needs_no_key
async def dashboard_file(name: str) -> Response:
    """Serve a style sheet, script or picture of the dashboard."""
    if name not in FILES:
        raise Problem(404, "route_not_found", f"The dashboard has no file {name[:80]!r}.")
    return _page(name)


def _page(name: str) -> Response:
    content, media_type = FILES[name]
    return Response(content, headers=PAGE_HEADERS, media_type=media_type)
