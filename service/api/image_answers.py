"""Answers to requests for images before the router, which costs ten times as much as an image.

Answered here is what is plain: a version that may be drawn from, a label that it holds, a decoder that is
loaded, and no more images than one turn of the event loop draws. Everything else, and all that is refused, is
left to the endpoint (images.py). The answers are the same, byte for byte.
"""

import hashlib
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import parse_qsl

from fastapi import Request
from pydantic import ValidationError
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.access import Access
from service.api.grids import MAX_AREA, Arrangement
from service.api.lookup import headers_of_version
from service.api.middleware import PATTERN
from service.api.polls import NOT_IN_304, OTHER_HEADERS
from service.api.problems import answer_registry_error
from service.api.rates import RateLimits
from service.api.route import FOR_ONE_CLIENT, MAX_MEDIA_RANGES, names_etag, quality
from service.api.turns import Turns
from service.api.version_lookup import DrawableVersion, VersionLookup
from service.drawing.decoders import RENDERING, Generator, Wanted
from service.drawing.image_cache import ImageCache
from service.registry.drawable_versions import NamedVersion
from service.registry.errors import DatabaseUnavailable
from service.registry.versions import LabelDecoder
from service.requests.fields import ALIAS, HEAD, MAX_SEED, NAME, NUMBER

PATH = "/v1/models/{model}/versions/{number}/images/{label}/{seed}.png"
_PATH = re.compile(r"/v1/models/([^/]+)/versions/([^/]+)/images/([^/]+)/([0-9]{1,16})\.png")
MEDIA_TYPE = "image/png"
CONTENT_TYPE = (b"content-type", MEDIA_TYPE.encode())
RawHeaders = list[tuple[bytes, bytes]]


class _Image(NamedTuple):
    """What a URL names."""

    version: NamedVersion
    version_text: str
    label: str
    seed: int
    arrangement: Arrangement


class ImageMiddleware:
    """Answers plain requests for images, and passes everything else on."""

    def __init__(
        self,
        app: ASGIApp,
        versions: VersionLookup,
        generator: Generator,
        cache: ImageCache,
        access: Access,
        rates: RateLimits,
    ) -> None:
        self._app = app
        self._versions = versions
        self._generator = generator
        self._cache = cache
        self._access = access
        self._rates = rates
        self._turns = Turns()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "GET" and scope["path"].endswith(".png"):
            try:
                if await self._answer(scope, send):
                    return
            except DatabaseUnavailable as error:
                scope[PATTERN] = PATH
                await answer_registry_error(Request(scope), error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _answer(self, scope: Scope, send: Send) -> bool:
        """Answer the request if it is plain; return whether it was. Raises DatabaseUnavailable."""
        headers = dict(scope["headers"])
        if not _is_plain(scope, headers):
            return False
        caller = self._access.find_admitted(scope, ("sample",))
        image = None if caller is None else _parse(scope, caller.project)
        if caller is None or image is None:
            return False
        version = self._versions.find_kept(image.version) or await self._versions.find(image.version)
        decoder = None if version is None else version.decoders.get(image.label)
        if version is None or decoder is None:
            return False
        etag = image_etag(decoder, image.label, image.seed, image.arrangement).encode()
        is_known = names_etag(headers.get(b"if-none-match", b""), etag)
        content = b"" if is_known else self._cache.find(version.id, etag)
        loaded = None
        if content is None:
            loaded = self._generator.find_loaded(decoder.sha256)
            if loaded is None or not self._turns.takes(loaded, image.arrangement.count):
                return False
        if self._rates.take(scope["client"][0] if scope["client"] else "", caller.key_id):
            return False  # the router counts the request too, and refuses it with the reason
        if content is None and loaded is not None:
            seeds = range(image.seed, image.seed + image.arrangement.count)
            wanted = [Wanted(decoder.slot, image.label, seed) for seed in seeds]
            content = await self._turns.draw(loaded, wanted, image.arrangement.encode)
            if content is None:
                return False
            self._cache.keep(version.id, etag, content)
        scope[PATTERN] = PATH
        described = _describe(scope, version, image, etag, has_key=caller.key_id is not None)
        await _send(send, described, None if is_known else content)
        return True


def image_etag(decoder: LabelDecoder, label: str, seed: int, arrangement: Arrangement) -> str:
    """Return the ETag of images: of all that determines their bytes."""
    size = f"{arrangement.scale}/{arrangement.grid}"
    identity = f"{decoder.sha256}/{decoder.slot}/{label}/{seed}/{size}/{RENDERING}"
    return f'"{hashlib.sha256(identity.encode()).hexdigest()[:32]}"'


async def _send(send: Send, headers: RawHeaders, content: bytes | None) -> None:
    """Send the image with these headers; 304 if there is none."""
    if content is None:
        kept = [each for each in headers if each[0] not in NOT_IN_304]
        await send({"type": "http.response.start", "status": 304, "headers": kept})
        await send({"type": "http.response.body", "body": b""})
        return
    sent = [*headers, (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": sent})
    await send({"type": "http.response.body", "body": content})


def _describe(
    scope: Scope, version: DrawableVersion, image: _Image, etag: bytes, *, has_key: bool
) -> RawHeaders:
    """Return the headers that the endpoint would send, but for the length."""
    if image.version.number:
        raw = _describe_numbered(version.number, has_key=has_key)
    else:
        raw = _raw(headers_of_version(scope, version.number, image.version_text), has_key=has_key)
    return [*raw, (b"etag", etag), CONTENT_TYPE]


@lru_cache(maxsize=1024)
def _describe_numbered(number: int, *, has_key: bool) -> RawHeaders:
    """Return the headers of an image whose URL has the number of the version: they depend on nothing else."""
    return _raw(headers_of_version({}, number, str(number)), has_key=has_key)


def _raw(headers: Mapping[str, str], *, has_key: bool) -> RawHeaders:
    described = {**headers, "Cache-Control": FOR_ONE_CLIENT} if has_key else headers
    return [(name.lower().encode(), value.encode("latin-1")) for name, value in described.items()]


def _is_plain(scope: Scope, headers: dict[bytes, bytes]) -> bool:
    """Whether the request has no header that the endpoint would have to look at."""
    return (
        len(headers) == len(scope["headers"])
        and OTHER_HEADERS.isdisjoint(headers)
        and _accepts_png(headers.get(b"accept", b""))
    )


@lru_cache(maxsize=256)
def _accepts_png(accept: bytes) -> bool:
    ranges = accept.decode("latin-1").lower()
    if not ranges.strip():
        return True
    return ranges.count(",") < MAX_MEDIA_RANGES and quality(MEDIA_TYPE, ranges) > 0


def _parse(scope: Scope, project: str) -> _Image | None:
    """Return what the URL names; None unless all parts of it are plain."""
    found = _PATH.fullmatch(scope["path"])
    arrangement = _parse_query(scope["query_string"])
    if found is None or arrangement is None:
        return None
    model, version, label, seed = found.groups()
    if not NAME.fullmatch(model) or int(seed) > MAX_SEED:
        return None
    if NUMBER.fullmatch(version):
        named = NamedVersion(project, model, int(version), "")
    elif version == HEAD:
        named = NamedVersion(project, model, 0, "")
    elif ALIAS.fullmatch(version):
        named = NamedVersion(project, model, 0, version)
    else:
        return None
    return _Image(named, version, label, int(seed), arrangement)


@lru_cache(maxsize=256)
def _parse_query(query: bytes) -> Arrangement | None:
    try:
        fields = parse_qsl(query.decode("ascii"), keep_blank_values=True, strict_parsing=bool(query))
        arrangement = Arrangement.model_validate(dict(fields))
    except (ValueError, ValidationError):
        return None
    is_plain = len(dict(fields)) == len(fields) and arrangement.count * arrangement.scale**2 <= MAX_AREA
    return arrangement if is_plain else None
