"""GET /: the dashboard. Its files are in service/dashboard; there is no build step, and no other host."""

from importlib import resources

from fastapi import APIRouter, Response

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


def _read() -> dict[str, tuple[bytes, str]]:
    folder = resources.files("service").joinpath("dashboard")
    return {
        file.name: (file.read_bytes(), MEDIA_TYPES[suffix])
        for file in folder.iterdir()
        if (suffix := file.name[file.name.rfind(".") :]) in MEDIA_TYPES
    }


FILES = _read()


@router.get("/", response_class=Response)
async def dashboard() -> Response:
    """The dashboard's page."""
    return _page("index.html")


@router.get("/dashboard/{name}", response_class=Response)
async def dashboard_file(name: str) -> Response:
    """A style sheet, script or picture of the dashboard."""
    if name not in FILES:
        raise Problem(404, "route_not_found", "The dashboard has no such file.")
    return _page(name)


def _page(name: str) -> Response:
    content, media_type = FILES[name]
    return Response(content, headers=PAGE_HEADERS, media_type=media_type)
