"""What a page of another site may not do: name the service, change anything, or send a form."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from service.settings import Settings
from tests.api.serving import Served, serving
from tests.api.test_access import as_holder, new_key


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server on loopback that requires no key."""
    home = tmp_path_factory.mktemp("home")
    settings = Settings(home=home, allowed_hosts="Palimpsest.example, other.example")
    with serving(settings) as served:
        yield served


def port(served: Served) -> str:
    return served.address.rpartition(":")[2]


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1:{port}", "localhost:{port}", "LOCALHOST", "localhost.", "[::1]:{port}",
     "127.8.8.8", "palimpsest.example", "other.example:443"],
)  # fmt: skip
def test_the_service_answers_to_its_own_names(here: Served, host: str) -> None:
    sent = {"Host": host.format(port=port(here))}
    assert here.http.get("/v1/models", headers=sent).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:{port}", "localhost.evil.example", "10.0.0.7", "0.0.0.0", "2130706433",
     "127.1", "[::1", "localhost:99999999", "localhost:x", "a b", "user@localhost", "evil.example#localhost"],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/v1/models", "/", "/openapi.json", "/nowhere"])
def test_it_does_not_answer_to_other_names(here: Served, host: str, path: str) -> None:
    answer = here.http.get(path, headers={"Host": host.format(port=port(here))})
    assert (answer.status_code, answer.json()["code"]) == (421, "host_not_allowed")
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["request_id"] == answer.headers["X-Request-Id"]


def test_a_wildcard_address_answers_to_every_ip_address_and_to_no_other_name(tmp_path: Path) -> None:
    with serving(Settings(home=tmp_path / "home", host="0.0.0.0", auth="off")) as served:
        assert served.http.get("/v1/models", headers={"Host": "10.0.0.7:8000"}).status_code == 200
        assert served.http.get("/v1/models", headers={"Host": "evil.example"}).status_code == 421


CHANGES = [
    ("POST", "/v1/models", {"name": "x", "dataset": "mnist"}),
    ("POST", "/v1/jobs/job_0/cancel", None),
    ("PUT", "/v1/datasets/cats", None),
    ("DELETE", "/v1/keys/key_0", None),
    ("DELETE", "/v1/session", None),
    ("POST", "/v1/session", {"key": "x"}),
    ("POST", "/nowhere", None),
]
FOREIGN = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:1"},
    {"Origin": "http://localhost:{port}"},  # another name is another origin
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "{own}"},
    {"Sec-Fetch-Site": "same-origin", "Origin": "https://evil.example"},
    {"Sec-Fetch-Site": "unknown"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_a_page_of_another_site_changes_nothing(here: Served, headers: dict[str, str]) -> None:
    sent = {name: value.format(own=here.address, port=port(here)) for name, value in headers.items()}
    before = here.counts()
    for method, path, body in CHANGES:
        answer = here.http.request(method, path, json=body, headers=sent)
        assert (answer.status_code, answer.json()["code"]) == (403, "cross_site_request"), f"{method} {path}"
    assert here.counts() == before
    assert here.http.get("/v1/models", headers=sent).status_code == 200, "reading is what CORS protects"
    assert "Access-Control-Allow-Origin" not in here.http.get("/v1/models", headers=sent).headers


@pytest.mark.parametrize(
    "headers", [{}, {"Origin": "{own}"}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"},
                {"Sec-Fetch-Site": "same-origin", "Origin": "{own}"}], ids=str
)  # fmt: skip
def test_programs_and_the_own_pages_change_things(here: Served, headers: dict[str, str]) -> None:
    here.model("own")
    job = here.submit("own", "learn", labels=["1"])["id"]
    sent = {name: value.format(own=here.address) for name, value in headers.items()}
    assert here.http.post(f"/v1/jobs/{job}/cancel", headers=sent).status_code == 202


@pytest.mark.parametrize(
    "media_type", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain", ""]
)
def test_a_body_that_is_not_json_is_refused_also_where_none_is_read(here: Served, media_type: str) -> None:
    for path in ("/v1/jobs/job_0/cancel", "/v1/models", "/v1/session"):
        answer = here.http.post(path, content=b"a=b", headers={"Content-Type": media_type})
        assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type"), path
    cancel, headers = "/v1/jobs/job_0/cancel", {"Content-Type": media_type}
    assert here.http.post(cancel, content=iter([b"a=b"]), headers=headers).status_code == 415
    empty = here.http.post(cancel, content=b"", headers=headers)
    assert empty.json()["code"] == "job_not_found"


def test_a_session_is_a_cookie_for_the_own_pages_alone(here: Served) -> None:
    key = new_key(here, "read", "learn", project="default")
    own = {"Origin": here.address}
    with httpx2.Client(base_url=here.address) as browser:
        assert browser.post("/v1/session", json={"key": "pal_x"}, headers=own).status_code == 401
        opened = browser.post("/v1/session", json={"key": key}, headers=own)
        assert opened.status_code == 201
        assert opened.json()["scopes"] == ["learn", "read"]
        cookie = opened.headers["Set-Cookie"].lower()
        assert all(part in cookie for part in ("httponly", "samesite=strict", "path=/", "max-age=43200"))
        assert key not in cookie
        new = {"name": "by-cookie", "dataset": "mnist"}
        for headers in ({}, {"Sec-Fetch-Site": "none"}):
            refused = browser.post("/v1/models", json=new, headers=headers)
            assert refused.json()["code"] == "cross_site_request", "no evidence that the own page sent it"
        assert browser.get("/v1/models").status_code == 200
        assert browser.post("/v1/models", json=new, headers=own).status_code == 201
        forget = browser.post("/v1/models/by-cookie/forget", json={"labels": ["1"]}, headers=own)
        assert forget.json()["code"] == "insufficient_scope"
        token = browser.cookies["palimpsest_session"]
        assert browser.delete("/v1/session").json()["code"] == "cross_site_request"
        assert browser.delete("/v1/session", headers=own).status_code == 204
        assert "palimpsest_session" not in browser.cookies
    stolen = httpx2.post(f"{here.address}/v1/models/by-cookie/forget", json={"labels": ["1"]},
                        headers={**own, "Cookie": f"palimpsest_session={token}"})  # fmt: skip
    assert stolen.status_code != 403, "it has ended, so it limits nothing where no key is needed"


def test_a_session_ends_with_its_key(tmp_path: Path) -> None:
    with serving(Settings(home=tmp_path / "home", auth="on")) as served:
        key = new_key(served, "read")
        own = {"Origin": served.address}
        with httpx2.Client(base_url=served.address) as browser, as_holder(served, new_key(served)) as admin:
            assert browser.get("/v1/models").json()["code"] == "auth_required"
            assert browser.post("/v1/session", json={"key": key}, headers=own).status_code == 201
            assert browser.get("/v1/models").status_code == 200
            assert admin.delete(f"/v1/keys/key_{key.split('_')[1]}").status_code == 204
            assert browser.get("/v1/models").json()["code"] == "auth_required"
