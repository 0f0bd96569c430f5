"""Responses that several resources give: PNG images, and HTML pages."""

from fastapi import Response


class PngResponse(Response):
    media_type = "image/png"


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
