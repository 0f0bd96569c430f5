"""What several resources give or take: PNG images, HTML pages, and merge patches."""

from typing import Any

from fastapi import Response
from pydantic import BaseModel

VERSION_HEADER = "X-Model-Version"
"""The header of an answer that was made with a version: its number."""
BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
"""What the OpenAPI document tells about a body of bytes."""
PNG: dict[int | str, dict[str, Any]] = {
    200: {"description": "The picture.", "content": {"image/png": BINARY}}
}


class PngResponse(Response):
    media_type = "image/png"


def merge_patch_body(body: type[BaseModel]) -> dict[str, Any]:
    """Return what OpenAPI tells of the body of a PATCH, besides that it may be application/json."""
    schema = {"$ref": f"#/components/schemas/{body.__name__}"}
    return {"requestBody": {"content": {"application/merge-patch+json": {"schema": schema}}}}


def content_security_policy(*, images: str = "'self'") -> str:
    """Return the policy of a page. images: where it may load images from."""
    return "; ".join(
        [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            f"img-src {images}",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )


PAGE_HEADERS = {"Content-Security-Policy": content_security_policy(), "Referrer-Policy": "no-referrer"}
"""The headers of every HTML page: nothing in it is loaded from another host."""
