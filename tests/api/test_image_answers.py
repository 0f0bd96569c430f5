"""An image that is answered before the router is the endpoint's, and no process draws from a version that it
may be known to be revoked.
"""

import asyncio
import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image

from service.api.app import create_app
from service.api.image_answers import ImageAnswers
from service.api.polls import PollAnswers
from service.drawing.decoders import Decoder, Generator, Wanted
from service.drawing.images import png
from service.registry import keys
from service.registry.tables import DEFAULT_PROJECT
from tests.api.offered import CATALOG
from tests.api.serving import Served, listening
from tests.drawing.decoders import decoder

ROUTED = {"Range": "bytes=0-"}
"""A request with this header is answered by the endpoint itself, which draws whole images only."""
WITHIN_SECONDS = 1.0
"""How soon after a forget or a revocation every other process knows of it."""


@pytest.fixture
def m(served: Served, name: str) -> str:
    """A model whose head is version 2; both versions hold 1, 2 and 3."""
    served.model(name)
    served.done(name, "learn", labels=["1", "2", "3"])
    served.done(name, "resize", policy="expand")
    return name


@pytest.fixture
def endpoint_calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The labels that the endpoint has drawn, rather than what stands before the router."""
    drawn = []
    draw = Generator.draw

    def record(generator: Generator, decoder: str, *, label: str, slot: int, seeds: Any) -> Any:
        drawn.append(label)
        return draw(generator, decoder, label=label, slot=slot, seeds=seeds)

    monkeypatch.setattr(Generator, "draw", record)
    return drawn


@contextmanager
def second_process(served: Served) -> Iterator[httpx2.Client]:
    """Another API of the same deployment, which shares no memory with the first."""
    app = create_app(served.settings, offered=CATALOG)
    with listening(app) as address, httpx2.Client(base_url=address, timeout=30) as http:
        yield http


def path(model: str, label: str = "1", seed: int = 7, query: str = "", version: object = 2) -> str:
    return f"/v1/models/{model}/versions/{version}/images/{label}/{seed}.png{query}"


@pytest.mark.parametrize("version", [2, "head", "prod"])
@pytest.mark.parametrize("query", ["", "?scale=4", "?grid=2x3", "?grid=8x8&scale=2"])
def test_it_answers_as_the_endpoint_does(
    served: Served, m: str, endpoint_calls: list[str], version: object, query: str
) -> None:
    served.http.put(f"/v1/models/{m}/aliases/prod", json={"version": 2, "reason": "test"})
    address = path(m, query=query, version=version)
    routed = served.http.get(address, headers=ROUTED)
    assert endpoint_calls
    endpoint_calls.clear()
    first, cached = served.http.get(address), served.http.get(address)
    unchanged = served.http.get(address, headers={"If-None-Match": first.headers["ETag"]})
    assert endpoint_calls == []
    for answer in (first, cached):
        assert (answer.status_code, answer.content) == (200, routed.content)
        assert headers_of(answer) == headers_of(routed)
    routed_unchanged = served.http.get(address, headers={**ROUTED, "If-None-Match": first.headers["ETag"]})
    assert (unchanged.status_code, unchanged.content) == (routed_unchanged.status_code, b"") == (304, b"")
    assert headers_of(unchanged) == headers_of(routed_unchanged)


def headers_of(answer: httpx2.Response) -> dict[str, str]:
    changing = {"x-request-id", "date"}
    return {name: value for name, value in answer.headers.items() if name.lower() not in changing}


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"label": "9"}, 422),
        ({"version": 9}, 404),
        ({"version": "nothing"}, 404),
        ({"seed": 2**53}, 422),
        ({"query": "?scale=17"}, 422),
        ({"query": "?scale=16&grid=16x16"}, 422),
        ({"query": "?scale=1&scale=2"}, 422),
        ({"query": "?colour=red"}, 422),
        ({"model": "nothing"}, 404),
    ],
)
def test_what_is_refused_is_left_to_the_endpoint(
    served: Served, m: str, changed: dict[str, Any], status: int
) -> None:
    assert served.http.get(path(m)).status_code == 200
    answer = served.http.get(path(**{"model": m, **changed}))
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_images_requested_at_once_are_those_requested_one_by_one(served: Served, m: str) -> None:
    served.http.get(path(m))
    expected = {
        (label, seed): served.http.get(path(m, label, seed), headers=ROUTED).content
        for label in "123"
        for seed in range(100, 115)
    }

    async def request_all() -> dict[tuple[str, int], bytes]:
        async with httpx2.AsyncClient(base_url=served.address) as http:
            answers = await asyncio.gather(*(http.get(path(m, *wanted)) for wanted in expected))
        return {wanted: answer.content for wanted, answer in zip(expected, answers, strict=True)}

    assert asyncio.run(request_all()) == expected


def test_an_error_that_nobody_expected_is_a_500_for_each_request_and_no_request_waits_for_ever(
    served: Served, m: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):  # the first one loads the decoder
        assert served.http.get(path(m)).status_code == 200

    def fail(*_: object) -> None:
        raise MemoryError

    async def request_all() -> list[httpx2.Response]:
        async with httpx2.AsyncClient(base_url=served.address, timeout=20) as http:
            return await asyncio.gather(*(http.get(path(m, seed=seed)) for seed in range(1000, 1030)))

    with monkeypatch.context() as patch:
        patch.setattr(Decoder, "draw", fail)
        answers = asyncio.run(request_all())
    assert {(one.status_code, one.json()["code"]) for one in answers} == {(500, "internal_error")}
    assert len({one.headers["X-Request-Id"] for one in answers}) == len(answers)
    assert served.http.get(path(m, seed=1000)).status_code == 200


def test_what_is_answered_before_the_router_is_counted_as_its_endpoint(served: Served) -> None:
    paths = set(served.app.openapi()["paths"])
    assert {ImageAnswers.pattern, PollAnswers.pattern} <= paths


def test_the_process_that_told_of_a_forget_draws_nothing_more_and_others_stop_within_a_second(
    served: Served, m: str
) -> None:
    with second_process(served) as other:
        for http in (served.http, other):
            assert [http.get(path(m, "3")).status_code for _ in range(3)] == [200] * 3
        job = served.submit(m, "forget", labels=["3"])["id"]
        served.worker.work(job)
        committed = time.monotonic()
        assert other.get(f"/v1/jobs/{job}").json()["state"] == "succeeded"
        assert other.get(path(m, "3")).status_code == 410
        assert other.get(path(m, "1")).status_code == 410
        while served.http.get(path(m, "3")).status_code == 200:
            assert time.monotonic() < committed + WITHIN_SECONDS
        assert served.http.get(path(m, "1", version=3)).status_code == 200


@pytest.mark.parametrize(
    "tells", ["/v1/models/{m}", "/v1/jobs?model={m}", "/v1/jobs/{job}/events", "/v1/models/{m}/versions"]
)
def test_whatever_tells_of_a_forget_is_known_when_an_image_is_drawn(
    served: Served, m: str, tells: str
) -> None:
    with second_process(served) as other:
        assert other.get(path(m, "3")).status_code == 200
        job = served.submit(m, "forget", labels=["3"])["id"]
        served.worker.work(job)
        assert other.get(tells.format(m=m, job=job)).status_code == 200
        assert other.get(path(m, "3")).status_code == 410


def test_a_key_that_another_process_revoked_works_for_a_second_at_most(served: Served, m: str) -> None:
    with served.app.state.context.database.transaction() as session:
        row, text = keys.create(session, name="k", scopes=["sample", "admin"], project=DEFAULT_PROJECT)
    bearer = {"Authorization": f"Bearer {text}"}
    with second_process(served) as other:
        assert [other.get(path(m), headers=bearer).status_code for _ in range(2)] == [200, 200]
        assert served.http.get(path(m), headers=bearer).status_code == 200
        assert served.http.delete(f"/v1/keys/{row.id}", headers=bearer).status_code == 204
        revoked = time.monotonic()
        assert served.http.get(path(m), headers=bearer).status_code == 401
        while other.get(path(m), headers=bearer).status_code == 200:
            assert time.monotonic() < revoked + WITHIN_SECONDS


def test_while_versions_are_published_every_answer_of_the_head_is_whole_and_of_one_version(
    served: Served, name: str
) -> None:
    served.model(name)
    served.done(name, "learn", labels=["1"])
    seen: list[tuple[int, bytes]] = []
    done = threading.Event()

    def draw() -> None:
        with httpx2.Client(base_url=served.address) as http:
            while not done.is_set():
                answer = http.get(path(name, version="head"))
                assert answer.status_code == 200, answer.text
                seen.append((int(answer.headers["X-Model-Version"]), answer.content))

    drawing = threading.Thread(target=draw)
    drawing.start()
    for _ in range(10):
        served.done(name, "resize", policy="expand")
    done.set()
    drawing.join()
    decoders = {number: Decoder.load("", decoder(slots=12, seed=number)) for number in range(1, 12)}
    expected = {number: png(one.draw([Wanted(0, "1", 7)])[0]) for number, one in decoders.items()}
    assert len({number for number, _ in seen}) > 3
    assert all(content == expected[number] for number, content in seen)
    assert [number for number, _ in seen] == sorted(number for number, _ in seen)


def test_the_cached_images_of_a_revoked_version_are_removed(served: Served, m: str) -> None:
    cache = served.app.state.image_cache
    before = cache.versions()
    for _ in range(2):  # the first one loads the decoder
        served.http.get(path(m, "3"))
    (version,) = cache.versions() - before
    served.done(m, "forget", labels=["3"])
    deadline = time.monotonic() + 5
    while version in cache.versions():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_picture_is_a_picture(served: Served, m: str) -> None:
    with Image.open(io.BytesIO(served.http.get(path(m, query="?grid=4x4&scale=2")).content)) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "L", (224, 224))
        assert np.asarray(image).std() > 0
