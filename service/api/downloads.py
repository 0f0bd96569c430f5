"""Downloads of artifacts: one range of their bytes, links of a bucket, and large files in pieces."""

import hashlib
import re
from collections.abc import Iterator
from typing import NamedTuple

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from service.api.context import ApiContext
from service.api.error_kinds import RANGE_NOT_SATISFIABLE
from service.api.middleware import IS_HEAD
from service.api.problems import Problem
from service.registry.store import LINK_SECONDS


class ByteRange(NamedTuple):
    """The bytes from `start` to `end`, both included."""

    start: int
    end: int


def answer_bytes(request: Request, data: bytes, headers: dict[str, str], media_type: str) -> Response:
    """Answer 200 with all of `data`, or 206 with the requested range of it. Raises Problem 416."""
    found = find_range(request, len(data), headers["ETag"])
    if found is None:
        return Response(data, headers=headers, media_type=media_type)
    headers["Content-Range"] = f"bytes {found.start}-{found.end}/{len(data)}"
    return Response(data[found.start : found.end + 1], 206, headers, media_type)


def answer_artifact(
    request: Request, context: ApiContext, sha256: str, size: int, headers: dict[str, str], media_type: str
) -> Response:
    """Answer with an artifact, or a range of it, in pieces, so that it need not fit into memory.

    The last piece of a whole artifact is sent only if all of its bytes have the right hash. Otherwise the
    connection is closed, and the client sees that the answer is too short.
    Raises ArtifactMissing, ArtifactUnreadable, Problem 416.
    """
    found = find_range(request, size, headers["ETag"])
    status = 200 if found is None else 206
    if found is not None:
        headers["Content-Range"] = f"bytes {found.start}-{found.end}/{size}"
    start, length = (0, size) if found is None else (found.start, found.end - found.start + 1)
    headers["Content-Length"] = str(length)
    if IS_HEAD in request.scope:
        return Response(status_code=status, headers=headers, media_type=media_type)
    context.artifacts.read_part(sha256, start, 1)  # what is missing or unreadable is answered as an error
    pieces = _checked(context, sha256) if found is None else context.artifacts.pieces(sha256, start, length)
    return StreamingResponse(pieces, status, headers, media_type)


def find_link(context: ApiContext, request: Request, sha256: str) -> str | None:
    """Return a link of the bucket for the download; None if this service sends the file itself."""
    if not context.settings.signed_links or IS_HEAD in request.scope:
        return None
    return context.artifacts.link(sha256, seconds=LINK_SECONDS)


def redirect(link: str, etag: str) -> Response:
    """Answer 307: the file is at a link of the bucket."""
    return Response(status_code=307, headers={"ETag": etag, "Location": link, "Cache-Control": "no-store"})


def find_range(request: Request, size: int, etag: str) -> ByteRange | None:
    """Return the requested range of a file (RFC 9110, section 14); None if all of it is to be sent.

    Raises Problem 416 if the file has none of these bytes.
    """
    requested = re.fullmatch(r"bytes=([0-9]{0,18})-([0-9]{0,18})", request.headers.get("range", ""))
    range_applies = request.headers.get("if-range", etag) == etag
    if not requested or requested.groups() == ("", "") or not range_applies:
        return None
    first, last = requested.groups()
    start = int(first) if first else max(size - int(last), 0)
    end = min(int(last), size - 1) if first and last else size - 1
    if start >= size or (not first and int(last) == 0):
        raise Problem(
            RANGE_NOT_SATISFIABLE,
            f"The file has {size} bytes; request a range within them.",
            headers={"Content-Range": f"bytes */{size}"},
        )
    return None if start > end else ByteRange(start, end)  # an invalid range is ignored


class DownloadBroken(Exception):
    """The bytes of an artifact that is being sent are not those that were stored."""


def _checked(context: ApiContext, sha256: str) -> Iterator[bytes]:
    """Yield the artifact in pieces, the last one only if the bytes are right. Raises DownloadBroken."""
    digest, last = hashlib.sha256(), b""
    for piece in context.artifacts.pieces(sha256):
        digest.update(piece)
        if last:
            yield last
        last = piece
    if digest.hexdigest() != sha256:
        raise DownloadBroken(f"artifact {sha256} was changed after it was stored; restore it from a backup")
    yield last
