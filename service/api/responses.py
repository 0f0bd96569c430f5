"""What several resources give or take: PNG images, HTML pages, and merge patches."""

from typing import Any

from fastapi import Response


class PngResponse(Response):
    media_type = "image/png"


MERGE_PATCH_BODY: dict[str, Any] = {
    "requestBody": {
        "content": {
            "application/merge-patch+json": {"schema": {"$ref": "#/components/schemas/PatchDescription"}}
        }
    }
}
"""What the OpenAPI document tells about the body of a PATCH, besides that it may be application/json."""


CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)

PAGE_HEADERS = {"Content-Security-Policy": CONTENT_SECURITY_POLICY, "Referrer-Policy": "no-referrer"}
"""The headers of every HTML page: nothing in it is loaded from another host."""
