"""What a client may send, and how much: beyond it, every answer is a problem, and nothing grows."""

import asyncio
import base64
import gzip
import hashlib
import io
import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from service.api.bodies import MAX_JSON_ITEMS
from service.api.problems import Problem
from service.api.slots import Slots
from service.metrics import REGISTRY
from service.process.http_connections import Connections
from service.process.http_protocol import MAX_TRAILER_BYTES
from service.registry.space import measure_disk_bytes
from service.settings import Settings
from tests.api.raw_http import connect, send
from tests.api.serving import Served, serving
from tests.api.test_access import new_key
from tests.instance import wait_for
from tests.requests.archives import as_npz, doodles

GET = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"
CLOSE = b"Connection: close\r\n\r\n"
POST = b"POST /v1/models HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n"
UPGRADE = b"Connection: Upgrade\r\nUpgrade: "


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    settings = Settings(home=tmp_path_factory.mktemp("home"), head_seconds=0.5, max_uploads=2)
    with serving(settings) as served:
        yield served


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Served]:
    settings = Settings(
        home=tmp_path / "home",
        max_queued_jobs=2,
        max_drawing=1,
        max_datasets=1,
        requests_per_second_of_loopback=20,
    )
    with serving(settings) as served:
        yield served


BAD_HTTP = [
    ("a header of 40 kB", 431, "headers_too_large", [GET, b"X: ", b"a" * 40_000, b"\r\n", CLOSE]),
    ("a header without end", 431, "headers_too_large", [GET, b"X: ", *[b"a" * 100_000] * 50]),
    ("101 headers", 431, "headers_too_large", [GET, b"A: b\r\n" * 100, CLOSE]),
    ("line breaks without end", 431, "headers_too_large", [b"\r\n" * 30_000]),
    ("trailers without end", 431, "headers_too_large", [CHUNKED, b"\r\n0\r\n", b"A: b\r\n" * 20_000]),
    ("a trailer without end", 431, "headers_too_large", [CHUNKED, b"\r\n0\r\nX: ", *[b"a" * 100_000] * 50]),
    ("a chunk that begins without end", 431, "headers_too_large",
     [CHUNKED, b"\r\n2;x=", *[b"a" * 100_000] * 50]),
    ("a URL of 9 kB", 414, "uri_too_long", [b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\n", CLOSE]),
    ("a URL without end", 414, "uri_too_long", [b"GET /", b"a" * 90_000]),
    ("both lengths", 400, "invalid_http", [CHUNKED, b"Content-Length: 3\r\n\r\n0\r\n\r\n"]),
    ("two lengths", 400, "invalid_http", [POST, b"Content-Length: 2\r\n" * 2, b"\r\n{}"]),
    ("a length with a sign", 400, "invalid_http", [POST, b"Content-Length: +2\r\n\r\n{}"]),
    ("two hosts", 400, "invalid_http", [GET, b"Host: other\r\n", CLOSE]),
    ("a space before the colon", 400, "invalid_http", [GET, b"Content-Length : 2\r\n", CLOSE]),
    ("a folded header", 400, "invalid_http", [GET, b"A: b\r\n c\r\n", CLOSE]),
    ("a bare line feed", 400, "invalid_http", [b"GET /livez HTTP/1.1\nHost: localhost\n\n"]),
    ("a NUL", 400, "invalid_http", [GET, b"A: \0\r\n", CLOSE]),
    ("no method of HTTP", 400, "invalid_http", [b"HELLO / HTTP/1.1\r\n\r\n"]),
    ("a TLS hello", 400, "invalid_http", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200)]),
    ("a URL of broken bytes", 400, "invalid_http", [b"GET /\xff HTTP/1.1\r\n", CLOSE]),
    ("a chunk without a size", 400, "invalid_http", [CHUNKED, b"\r\nzz\r\n"]),
    ("HTTP/2", 505, "http_version_not_supported", [b"GET / HTTP/2.0\r\n", CLOSE]),
    ("a packed transfer", 501, "unsupported_transfer_encoding",
     [POST, b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"]),
    ("a WebSocket", 400, "upgrade_not_supported", [GET, UPGRADE, b"websocket\r\n\r\n"]),
    ("an upgrade with a body", 400, "upgrade_not_supported",
     [POST, UPGRADE, b"h2c\r\nContent-Length: 2\r\n\r\n{}"]),
    ("half a head, slowly", 408, "request_timeout", [GET]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("status", "code", "parts"), [bad[1:] for bad in BAD_HTTP], ids=[b[0] for b in BAD_HTTP]
)
def test_bad_http_is_answered_with_a_problem_and_the_connection_ends(
    served: Served, status: int, code: str, parts: list[bytes]
) -> None:
    before = served.counts()
    [answer] = send(served.address, *parts)
    assert (answer.status, answer.problem["code"]) == (status, code), answer.problem
    assert answer.headers["connection"] == "close"
    assert served.counts() == before
    assert served.http.get("/livez").status_code == 200


def test_half_a_body_is_refused_when_the_client_ends_it(served: Served) -> None:
    [answer] = send(served.address, POST, b"Content-Length: 10\r\n\r\n{}", end=True)
    assert (answer.status, answer.problem["code"]) == (400, "incomplete_body")


def test_a_body_that_is_too_large_is_refused_before_it_is_sent(served: Served) -> None:
    [answer] = send(served.address, POST, b"Content-Length: 99999999\r\n\r\n")
    assert (answer.status, answer.problem["code"]) == (413, "payload_too_large")


def test_a_client_that_sends_on_still_gets_the_refusal(served: Served) -> None:
    [answer] = send(served.address, CHUNKED, b"\r\n", *[b"10000\r\n" + b"a" * 65536 + b"\r\n"] * 200)
    assert (answer.status, answer.problem["code"]) == (413, "payload_too_large")


def test_requests_sent_at_once_are_answered_in_order_and_not_without_end(served: Served) -> None:
    answers = send(served.address, (GET + b"\r\n") * 3 + b"NONSENSE\r\n\r\n")
    assert [answer.status for answer in answers] == [200, 200, 200, 400]
    answers = send(served.address, (GET + b"\r\n") * 100)
    assert answers[-1].problem["code"] == "pipeline_too_long"
    assert {answer.status for answer in answers[:-1]} == {200}


def test_another_upgrade_is_ignored_as_http_allows(served: Served) -> None:
    [answer] = send(served.address, GET, UPGRADE, b"h2c\r\n\r\n")
    assert (answer.status, answer.headers["connection"]) == (200, "close")


def test_a_body_may_come_in_many_small_chunks(served: Served) -> None:
    with connect(served.address) as connection:
        connection.sendall(CHUNKED + CLOSE)
        for _ in range(MAX_TRAILER_BYTES // 3):
            connection.sendall(b"1\r\n")
            connection.sendall(b" \r\n")
        connection.sendall(b"0\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 400")  # a body of spaces is no JSON


def test_a_trailer_is_no_header(served: Served) -> None:
    trailer = b"\r\n2\r\n{}\r\n0\r\nContent-Type: text/plain\r\n\r\n"
    answers = send(served.address, CHUNKED, trailer, GET, CLOSE)
    assert [answer.status for answer in answers] == [422, 200]


def test_a_packed_body_is_refused(served: Served) -> None:
    answer = served.http.post(
        "/v1/models",
        content=gzip.compress(b"{}"),
        headers={"Content-Type": "application/json", "Content-Encoding": "gzip"},
    )
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_content_encoding")
    assert answer.headers["Accept-Encoding"] == "identity"
    two = b"Content-Encoding: identity\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}"
    [raw] = send(served.address, POST, two, end=True)
    assert (raw.status, raw.problem["code"]) == (415, "unsupported_content_encoding")


def test_a_request_that_needs_no_key_has_a_small_body(served: Served) -> None:
    answer = served.http.post("/v1/session", json={"key": "a" * 5_000})
    assert (answer.status_code, answer.json()["code"]) == (413, "payload_too_large")


def post(served: Served, body: bytes) -> httpx2.Response:
    return served.http.post("/v1/models", content=body, headers={"Content-Type": "application/json"})


def test_a_large_request_costs_little(served: Served) -> None:
    widths = b'{"name": "a", "dataset": "mnist", "network": {"encoder_widths": [' + b"1," * 500_000 + b"1]}}"
    fields = json.dumps({f"f{i}": 1 for i in range(60_000)}).encode()
    items = json.dumps({"network": {"encoder_widths": [1] * 5_000}}).encode()
    for body, code in ((widths, "out_of_range"), (items, "out_of_range")):
        answer = post(served, body)
        assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text
    assert answer.json()["errors"][0]["pointer"] == "/network/encoder_widths"
    answer = post(served, fields)
    assert answer.status_code == 422
    assert len(answer.json()["errors"]) == 20
    answer = served.http.get("/v1/models?" + "&".join(f"a{i}=1" for i in range(101)))
    assert (answer.status_code, answer.json()["code"]) == (400, "too_many_parameters")
    answer = served.http.get("/v1/models", headers={"Accept": ", ".join(["a/b"] * 101)})
    assert (answer.status_code, answer.json()["code"]) == (400, "header_too_long")


def test_no_request_needs_more_than_the_parser_lets_through(served: Served) -> None:
    """An object with too many members is cut before its rules are checked, so every object must refuse it."""
    document = served.app.openapi()

    def bounded(schema: dict[str, Any], place: str) -> None:
        if "$ref" in schema:
            bounded(document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], place)
        for each in schema.get("anyOf", []):
            bounded(each, place)
        if schema.get("type") == "array":
            assert schema.get("maxItems", MAX_JSON_ITEMS + 1) <= MAX_JSON_ITEMS, place
            bounded(schema["items"], place)
        if schema.get("type") == "object" and "properties" in schema:
            bound = schema.get("maxProperties", MAX_JSON_ITEMS + 1)
            assert schema.get("additionalProperties") is False or bound <= MAX_JSON_ITEMS, place
            for name, inner in schema["properties"].items():
                bounded(inner, f"{place}/{name}")

    for path, methods in document["paths"].items():
        for operation in methods.values():
            for media in operation.get("requestBody", {}).get("content", {}).values():
                bounded(media["schema"], path)


def test_a_digest_of_the_body_is_compared(served: Served) -> None:
    archive = as_npz(doodles(seed=7))
    good = base64.b64encode(hashlib.sha256(archive).digest()).decode()
    for sent, status, code in (
        (f"sha-256=:{good[::-1]}:", 400, "invalid_digest"),
        (f"sha-256=:{base64.b64encode(bytes(32)).decode()}:", 422, "checksum_mismatch"),
        (f"sha-256=:{good}:", 201, None),
    ):
        headers = {"Content-Type": "application/zip", "Content-Digest": sent}
        answer = served.http.put("/v1/datasets/digested", content=archive, headers=headers)
        assert (answer.status_code, answer.json().get("code")) == (status, code), answer.text


def test_one_upload_more_than_are_received_at_once_is_refused(served: Served) -> None:
    head = b"PUT /v1/datasets/slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\n"
    uploads, most = served.app.state.context.uploads, served.settings.max_uploads
    with ExitStack() as slow:
        for _ in range(most):
            slow.enter_context(connect(served.address)).sendall(head + b"PK")
        wait_for("the uploads have begun", lambda: uploads.in_hand == most)
        answer = served.http.put("/v1/datasets/other", content=as_npz(doodles()))
        assert (answer.status_code, answer.json()["code"]) == (429, "concurrency_limited")
        assert answer.headers["Retry-After"] == "1"
    wait_for("the client has left", lambda: not uploads.in_hand)
    assert served.http.get("/v1/datasets/slow").status_code == 404


def test_one_key_holds_half_of_the_uploads_at_most(served: Served) -> None:
    keys = [new_key(served, "learn") for _ in range(2)]
    head = (
        b"PUT /v1/datasets/slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\nAuthorization: Bearer "
    )
    uploads = served.app.state.context.uploads

    def put(key: str) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {key}"}
        return served.http.put("/v1/datasets/keyed", content=as_npz(doodles()), headers=headers)

    with connect(served.address) as slow:
        slow.sendall(head + keys[0].encode() + b"\r\n\r\nPK")
        wait_for("the upload has begun", lambda: uploads.in_hand)
        answer = put(keys[0])
        assert (answer.status_code, answer.json()["code"]) == (429, "concurrency_limited")
        assert put(keys[1]).status_code == 201
    wait_for("the client has left", lambda: not uploads.in_hand)
    assert put(keys[0]).status_code == 200


def test_the_connections_of_an_ipv6_network_count_together() -> None:
    @dataclass(eq=False)
    class Open:
        loop: asyncio.AbstractEventLoop
        client: tuple[str, int] | None
        idle_since: float = 0.0
        waits_for_client: bool = True

        def check(self, now: float) -> None: ...
        def evict(self) -> None: ...

    loop = asyncio.new_event_loop()
    room = Connections(most=10, most_of_peer=2)
    first, *others = (Open(loop, (f"2001:db8::{number}", 1)) for number in range(1, 4))
    assert [room.admit(each) is None for each in (first, *others)] == [True, True, False]
    assert room.admit(Open(loop, ("2001:db8:0:1::1", 1))) is None
    room.release(first)
    assert room.admit(others[1]) is None
    loop.close()


def test_a_dataset_is_deleted_unless_a_job_needs_it(served: Served) -> None:
    served.http.put("/v1/datasets/fleeting", content=as_npz(doodles(seed=8)))
    served.http.post("/v1/models", json={"name": "needy", "dataset": "fleeting"})
    job = served.submit("needy", "learn", labels=["ring"])
    answer = served.http.delete("/v1/datasets/fleeting")
    assert (answer.status_code, answer.json()["code"]) == (409, "dataset_in_use")
    assert job["id"] in answer.json()["detail"]
    served.worker.work(job["id"])
    assert served.http.delete("/v1/datasets/fleeting").status_code == 204
    assert served.http.get("/v1/datasets/fleeting").status_code == 404
    assert served.http.delete("/v1/datasets/fleeting").status_code == 404
    assert served.http.get("/v1/models/needy").json()["head"] == 1


def test_drawing_ends_when_its_clients_leave(served: Served) -> None:
    served.model("left")
    served.done("left", "learn", labels=["1"])
    body = json.dumps({"labels": ["1"], "count": 2000, "format": "npz"}).encode()
    head = b"POST /v1/models/left/samples HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    slices = "palimpsest_draw_seconds_count"
    before, rows = REGISTRY.get_sample_value(slices) or 0, served.counts()
    for _ in range(40):
        with connect(served.address) as leaving:
            leaving.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    assert served.http.get("/v1/models/left/versions/1/images/1/0.png").status_code == 200
    wait_for("nothing is drawn", lambda: not served.app.state.context.drawing.in_hand)
    drawn = (REGISTRY.get_sample_value(slices) or 0) - before
    assert drawn < 40 * 2000 / 32 / 2, "less than half of what was requested"
    assert served.counts() == rows


def test_what_is_in_hand_is_bounded(small: Served) -> None:
    small.model("busy")
    small.done("busy", "learn", labels=["1"])
    for _ in range(2):
        small.submit("busy", "resize", policy="prune")
    answer = small.http.post("/v1/models/busy/resize", json={"policy": "prune"})
    assert (answer.status_code, answer.json()["code"]) == (429, "queue_full")
    assert int(answer.headers["Retry-After"]) >= 1
    assert small.http.put("/v1/datasets/one", content=as_npz(doodles())).status_code == 201
    answer = small.http.put("/v1/datasets/two", content=as_npz(doodles(seed=1)))
    assert (answer.status_code, answer.json()["code"]) == (413, "quota_exceeded")
    request = {"labels": ["1"], "count": 2000, "format": "npz"}
    answers: list[int] = []
    drawing = threading.Thread(
        target=lambda: answers.append(
            httpx2.post(f"{small.address}/v1/models/busy/samples", json=request, timeout=60).status_code
        )
    )
    drawing.start()
    wait_for("it draws", lambda: small.app.state.context.drawing.in_hand)
    answer = small.http.post("/v1/models/busy/samples", json=request)
    assert (answer.status_code, answer.json()["code"]) == (429, "concurrency_limited")
    drawing.join()
    assert answers == [200]


def test_one_client_has_half_of_the_slots_at_most() -> None:
    slots = Slots("drawing images", threads=1, requests=4)
    with slots.admit("a key"), slots.admit("a key"):
        with pytest.raises(Problem, match="2 requests of this client"), slots.admit("a key"):
            pass
        with slots.admit("another key"), slots.admit(None):
            assert slots.in_hand == 4
    with slots.admit("a key"):
        assert slots.in_hand == 1


def test_uploads_of_all_projects_fill_a_share_of_the_disk_at_most(tmp_path: Path) -> None:
    data = as_npz(doodles())
    disk = measure_disk_bytes(tmp_path)
    settings = Settings(home=tmp_path / "home", max_datasets_share=doodles_bytes(data) * 1.5 / disk)
    with serving(settings) as served:
        served.http.post("/v1/projects", json={"name": "other"})
        elsewhere = {"Palimpsest-Project": "other"}
        assert served.http.put("/v1/datasets/one", content=data, headers=elsewhere).status_code == 201
        answer = served.http.put("/v1/datasets/two", content=as_npz(doodles(seed=1)))
        assert (answer.status_code, answer.json()["code"]) == (413, "quota_exceeded")
        assert "of the disk" in answer.json()["detail"]


def doodles_bytes(archive: bytes) -> int:
    return int(np.load(io.BytesIO(archive))["images"].nbytes)


def test_a_client_that_sends_too_often_is_told_to_wait(small: Served) -> None:
    answers = [small.http.get("/v1/catalog") for _ in range(200)]
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["code"] == "rate_limited"
    assert int(refused.headers["Retry-After"]) >= 1
    assert {small.http.get("/livez").status_code for _ in range(100)} == {200}
