"""Receive the body of an upload into a temporary file, and compare it with the digest that was sent."""

import base64
import binascii
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO, cast

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from service.api.bodies import refuse_announced, too_large
from service.api.error_kinds import INVALID_DIGEST, rule_kind
from service.api.problems import Problem
from service.hanging import BoundedCalls

PIECE = 1 << 20
DIGESTS = {"sha-256": "sha256", "sha-512": "sha512"}
"""{algorithm in the header Content-Digest: its name in hashlib}. Others are ignored, as RFC 9530 says."""
DIGEST = re.compile(r"\s*([A-Za-z0-9-]{1,20})\s*=\s*:?([A-Za-z0-9+/]{1,100}={0,2}):?\s*")


@asynccontextmanager
async def received(
    request: Request, folder: Path, *, max_bytes: int, disk: BoundedCalls
) -> AsyncIterator[BinaryIO]:
    """Yield an unnamed file in `folder` with the body; the kernel deletes it however this process ends.

    Raises Problem 413 as soon as it is longer than `max_bytes`, 422 `checksum_mismatch` if it differs from
    the header Content-Digest (or Digest), and OSError if it cannot be written; if the disk hangs, in time.
    """
    refuse_announced(request, max_bytes)
    expected = _read_digests(request)
    file = await run_in_threadpool(disk.call, _open, folder)
    try:
        hashes = {name: hashlib.new(DIGESTS[name]) for name in expected}
        waiting, length = bytearray(), 0
        async for piece in request.stream():
            waiting += piece
            length += len(piece)
            if length > max_bytes:
                raise too_large(max_bytes)
            if len(waiting) >= PIECE:
                await run_in_threadpool(disk.call, file.write, bytes(waiting))
                for each in hashes.values():
                    each.update(waiting)
                waiting.clear()
        await run_in_threadpool(disk.call, file.write, bytes(waiting))
        for name, each in hashes.items():
            each.update(waiting)
            if each.digest() != expected[name]:
                detail = f"The {name} of the body is not the one in the header; send it again."
                raise Problem(rule_kind("checksum_mismatch"), detail)
        await run_in_threadpool(disk.call, file.flush)
        yield file
    finally:
        with suppress(OSError):  # its bytes are stored elsewhere by now, or were never complete
            await run_in_threadpool(disk.call, file.close)


def _open(folder: Path) -> BinaryIO:
    folder.mkdir(parents=True, exist_ok=True)
    return cast(BinaryIO, TemporaryFile(dir=folder))


def _read_digests(request: Request) -> dict[str, bytes]:
    """Return {algorithm: digest} of the headers Content-Digest and Digest. Raises Problem 400."""
    found = {}
    sent = [*request.headers.getlist("content-digest"), *request.headers.getlist("digest")]
    for entry in (entry for header in sent for entry in header.split(",")[:10]):
        matched = DIGEST.fullmatch(entry)
        try:
            name, value = (matched[1].lower(), base64.b64decode(matched[2])) if matched else ("", b"")
        except binascii.Error:
            name = ""
        if not name:
            detail = "The header Content-Digest is malformed; write `sha-256=:BASE64:`, or leave it out."
            raise Problem(INVALID_DIGEST, detail)
        if name in DIGESTS:
            found[name] = value
    return found
