"""Answers to requests for images before the router, which costs ten times as much as an image.

Answered here is what is plain: a version that may be drawn from, a label that it holds, a decoder that is
loaded, and no more images than one iteration of the event loop draws. Everything else, and all that is
refused, is left to the endpoint (images.py). The answers are the same, byte for byte.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import parse_qsl

from pydantic import ValidationError
from starlette.types import Scope

from service.api.access import Caller
from service.api.batched_drawing import BatchedDrawing
from service.api.grids import Arrangement
from service.api.lookup import headers_of_version
from service.api.plain_requests import PlainHeaders, RawHeaders, Reply
from service.api.route import FOR_ONE_CLIENT, MAX_MEDIA_RANGES, names_etag, quality
from service.api.version_lookup import DrawableVersion, VersionLookup
from service.drawing.decoders import RENDERING, Generator, Wanted
from service.drawing.image_cache import ImageCache
from service.registry.drawable_versions import NamedVersion
from service.registry.keys import Scope as KeyScope
from service.registry.versions import LabelDecoder
from service.requests.fields import ALIAS, HEAD, MAX_SEED, NAME, NUMBER
from service.requests.violations import InvalidRequest

_PATH = re.compile(r"/v1/models/([^/]+)/versions/([^/]+)/images/([^/]+)/([0-9]{1,16})\.png")
MEDIA_TYPE = "image/png"
CONTENT_TYPE = (b"content-type", MEDIA_TYPE.encode())


class _Image(NamedTuple):
    """What a URL names."""

    version: NamedVersion
    version_text: str
    label: str
    seed: int
    arrangement: Arrangement


class ImageAnswers:
    """Answers requests for images that can be drawn in one iteration of the event loop."""

    scopes: tuple[KeyScope, ...] = ("sample",)
    pattern = "/v1/models/{model}/versions/{number}/images/{label}/{seed}.png"

    def __init__(self, versions: VersionLookup, generator: Generator, cache: ImageCache) -> None:
        self._versions = versions
        self._generator = generator
        self._cache = cache
        self._drawing = BatchedDrawing()

    def takes(self, path: str) -> bool:
        """Return whether the path may be that of an image."""
        return path.endswith(".png")

    async def find(
        self, scope: Scope, headers: PlainHeaders, caller: Caller, refuses: Callable[[], bool]
    ) -> Reply | None:
        """Return the answer; None for what the endpoint should answer. Raises DatabaseUnavailable."""
        image = _parse(scope, caller.project) if _accepts_png(headers.accept) else None
        if image is None:
            return None
        version = await self._versions.find(image.version)
        decoder = None if version is None else version.decoders.get(image.label)
        if version is None or decoder is None:
            return None
        etag = image_etag(decoder, image.label, image.seed, image.arrangement).encode()
        described = _describe(scope, version, image, etag, has_key=caller.key_id is not None)
        if headers.condition and names_etag(headers.condition, etag):
            return None if refuses() else Reply(304, described, b"")
        content = self._cache.find(version.id, etag)
        if content is None:
            loaded = self._generator.find_loaded(decoder.sha256)
            if loaded is None or not self._drawing.takes(loaded, image.arrangement.count) or refuses():
                return None
            seeds = range(image.seed, image.seed + image.arrangement.count)
            wanted = [Wanted(decoder.slot, image.label, seed) for seed in seeds]
            content = await self._drawing.draw(loaded, wanted, image.arrangement.encode)
            if content is None:
                return None
            self._cache.keep(version.id, etag, content)
        elif refuses():
            return None
        length = (b"content-length", str(len(content)).encode())
        return Reply(200, [*described, length, CONTENT_TYPE], content)


def image_etag(decoder: LabelDecoder, label: str, seed: int, arrangement: Arrangement) -> str:
    """Return the ETag of images: of all that determines their bytes."""
    size = f"{arrangement.scale}/{arrangement.grid}"
    identity = f"{decoder.sha256}/{decoder.slot}/{label}/{seed}/{size}/{RENDERING}"
    return f'"{hashlib.sha256(identity.encode()).hexdigest()[:32]}"'


def _describe(
    scope: Scope, version: DrawableVersion, image: _Image, etag: bytes, *, has_key: bool
) -> RawHeaders:
    """Return the headers that the endpoint sends with 304; with 200, the length and the type follow."""
    if image.version.number:
        raw = _describe_numbered(version.number, has_key=has_key)
    else:
        raw = _raw(headers_of_version(scope, version.number, image.version_text), has_key=has_key)
    return [*raw, (b"etag", etag)]


@lru_cache(maxsize=1024)
def _describe_numbered(number: int, *, has_key: bool) -> RawHeaders:
    """Return the headers of an image whose URL has the number of the version: they depend on nothing else."""
    return _raw(headers_of_version({}, number, str(number)), has_key=has_key)


def _raw(headers: Mapping[str, str], *, has_key: bool) -> RawHeaders:
    described = {**headers, "Cache-Control": FOR_ONE_CLIENT} if has_key else headers
    return [(name.lower().encode(), value.encode("latin-1")) for name, value in described.items()]


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
        arrangement.refuse_too_large()
    except (ValueError, ValidationError, InvalidRequest):
        return None
    return arrangement if len(dict(fields)) == len(fields) else None
