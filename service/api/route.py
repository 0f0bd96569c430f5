"""What every endpoint gets for nothing: strict JSON in, only what was accepted out, ETag and 304."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from service.api.problems import Problem

MAX_BODY_BYTES = 1 << 20
MAX_JSON_DEPTH = 32
MAX_JSON_INTEGER_DIGITS = 20  # beyond 64 bits no field means anything


class Route(APIRoute):
    """An APIRoute whose bodies are strict JSON and whose GET answers carry an ETag."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_strictly(request: Request) -> Response:
            _refuse_unacceptable(request, self.response_class)
            if self.body_field is not None:
                request = JsonRequest(request.scope, request.receive)
                await request.json()
            return tagged(request, await handle(request))

        return handle_strictly


class JsonRequest(Request):
    """A request whose body is one JSON document, checked before anything else looks at it."""

    async def json(self) -> Any:
        """The parsed body. Problem 415, 413 or 400 when it is not JSON, too large or too deep."""
        if not hasattr(self, "_json"):
            media_type = self.headers.get("content-type", "").partition(";")[0].strip().lower()
            if media_type != "application/json":
                raise Problem(
                    415,
                    "unsupported_media_type",
                    f"The body is {media_type or 'of no declared type'}; send it as application/json.",
                    headers={"Accept": "application/json"},
                )
            self._json = parse(await self.body())
        return self._json

    async def body(self) -> bytes:
        """The body's bytes, read no further than MAX_BODY_BYTES."""
        if not hasattr(self, "_body"):
            self._body = await body_of(self, MAX_BODY_BYTES)
        return self._body


async def body_of(request: Request, most_bytes: int) -> bytes:
    """The body's bytes, read no further than `most_bytes`; Problem 413 when there are more."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most_bytes:
            detail = f"The body is larger than {most_bytes} bytes."
            raise Problem(413, "payload_too_large", detail, headers={"Connection": "close"})
    return bytes(body)


def parse(body: bytes) -> Any:
    """One JSON document (RFC 8259, no NaN or Infinity, no repeated key); Problem 400 says what is wrong."""
    if not body.strip():
        raise Problem(400, "body_required", "The body is empty; send a JSON object.")
    try:
        document = json.loads(
            body.decode("utf-8"),
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_integer,
            object_pairs_hook=_object,
        )
        if b"\\u" in body:
            json.dumps(document, ensure_ascii=False).encode("utf-8")  # a lone surrogate is no text
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise Problem(400, "invalid_json", f"The body is not valid JSON: {error}") from None
    if _deeper_than(document, MAX_JSON_DEPTH):
        raise _too_deep()
    return document


def tagged(request: Request, response: Response) -> Response:
    """The response with an ETag of its bytes, or 304 without them when the client already has these."""
    if request.method != "GET" or response.status_code != 200 or not isinstance(response.body, bytes):
        return response
    if "etag" not in response.headers:
        response.headers["ETag"] = f'"{hashlib.sha256(response.body).hexdigest()[:32]}"'
        response.headers.setdefault("Cache-Control", "no-cache")
    return not_modified(request, dict(response.headers)) or response


def not_modified(request: Request, headers: dict[str, str]) -> Response | None:
    """304 when If-None-Match names the ETag among `headers` (weak comparison, RFC 9110 13.1.2)."""
    etag = next(value for name, value in headers.items() if name.lower() == "etag")
    asked = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if etag not in asked and "*" not in asked:
        return None
    kept = {k: v for k, v in headers.items() if k.lower() not in ("content-length", "content-type")}
    return Response(status_code=304, headers=kept)


def _refuse_unacceptable(request: Request, response_class: Any) -> None:
    """Problem 406 when the one media type of this endpoint is none of those the client accepts."""
    made = getattr(getattr(response_class, "value", response_class), "media_type", None)
    if made:
        preferred(request, made)


def preferred(request: Request, *made: str) -> str:
    """The media type of `made` that the client likes best, the first where it does not mind (RFC 9110).

    Problem 406 when it accepts none of them.
    """
    accepted = request.headers.get("accept", "").lower()
    if not accepted.strip():
        return made[0]
    liking = {one: _quality(one, accepted) for one in made}
    best = max(made, key=lambda one: liking[one])
    if liking[best] == 0:
        raise Problem(406, "not_acceptable", f"This address answers {' or '.join(made)}; accept it, or */*.")
    return best


def _quality(made: str, accepted: str) -> float:
    """How much of 0 to 1 an Accept header likes a media type: what its most specific range says."""
    ranges = ["*/*", f"{made.partition('/')[0]}/*", made]
    found = {-1: 0.0}
    for entry in accepted.split(","):
        media_range, _, parameters = entry.partition(";")
        if media_range.strip() in ranges:
            quality = re.search(r"\bq=([01](?:\.[0-9]{0,3})?)\s*$", parameters)
            found[ranges.index(media_range.strip())] = float(quality[1]) if quality else 1.0
    return found[max(found)]


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _finite(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{digits[:40]} is too large a number")
    return number


def _integer(digits: str) -> int:
    if len(digits) > MAX_JSON_INTEGER_DIGITS:
        raise ValueError(f"{digits[:40]}... is too large a number")
    return int(digits)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        repeated = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {repeated[:40]!r} appears twice in one object")
    return found


def _deeper_than(document: Any, limit: int) -> bool:
    level, depth = [document], 0
    while level:
        level = [
            child
            for value in level
            if isinstance(value, dict | list)
            for child in (value.values() if isinstance(value, dict) else value)
        ]
        depth += 1
        if depth > limit + 1:
            return True
    return False


def _too_deep() -> Problem:
    return Problem(400, "json_too_deep", f"The body nests deeper than {MAX_JSON_DEPTH} levels.")
