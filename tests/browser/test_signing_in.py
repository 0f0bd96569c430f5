"""The console asks for an API key where one is needed; a page of another site changes nothing."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from playwright.sync_api import Browser, expect

from service.settings import Settings
from tests.api.serving import Served, serving
from tests.api.test_access import as_holder, key_id, new_key


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Served]:
    """A server that requires a key."""
    with serving(Settings(home=tmp_path / "home", auth="on")) as served:
        yield served


def test_a_person_signs_in_with_a_key_and_out_again(locked: Served, browser: Browser) -> None:
    key = new_key(locked, "read", "sample", project="default")
    locked.http.headers["Authorization"] = f"Bearer {new_key(locked)}"
    locked.model("digits")
    locked.done("digits", "learn", labels=["1"])
    context = browser.new_context()
    page = context.new_page()
    page.goto(locked.address)
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.get_by_label("API key").fill("pal_mistyped")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("not a valid API key")
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("article", name="digits")).to_be_visible()
    page.locator(".label img").first.evaluate("img => img.decode()")
    [cookie] = context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    assert page.evaluate("document.cookie") == ""
    page.reload()
    expect(page.get_by_role("article", name="digits")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    expect(page.get_by_role("article", name="digits")).to_have_count(0)
    assert context.cookies() == []
    context.close()


def test_a_revoked_key_ends_what_it_signed_in(locked: Served, browser: Browser) -> None:
    key = new_key(locked, "read", project="default")
    context = browser.new_context()
    page = context.new_page()
    page.goto(locked.address)
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="No models yet")).to_be_visible()
    with as_holder(locked, new_key(locked)) as admin:
        assert admin.delete(f"/v1/keys/{key_id(key)}").status_code == 204
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    context.close()


def test_an_expired_key_is_refused_with_the_reason(locked: Served, browser: Browser) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{locked.address}/models/digits")
    page.get_by_label("API key").fill(new_key(locked, "read", project="default", expires_in=-1))
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("unknown, mistyped, revoked or expired")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    context.close()


def test_a_page_of_another_site_cancels_no_job(server: Served, browser: Browser) -> None:
    server.model("digits")
    job = server.submit("digits", "learn", labels=["1"])["id"]
    with ForeignSite(f"{server.address}/v1/jobs/{job}/cancel") as foreign:
        context = browser.new_context()
        page = context.new_page()
        page.goto(foreign)
        with page.expect_response(lambda answer: answer.url.endswith("/cancel")) as answered:
            page.get_by_role("button", name="Win a prize").click()
        assert answered.value.status == 403
        assert page.evaluate(SEND) == "TypeError"
        frame = page.frame_locator("iframe")
        expect(frame.get_by_role("heading", name="Palimpsest")).to_have_count(0)
        context.close()
    assert server.http.get(f"/v1/jobs/{job}").json()["state"] == "queued"


SEND = """async () => {
  try {
    const answer = await fetch(document.forms[0].action, { method: "POST", mode: "cors" });
    return String(answer.status);
  } catch (error) {
    return error.name;
  }
}"""


class ForeignSite:
    """A web server at `localhost`, another site than 127.0.0.1, with a form that posts to `target`."""

    def __init__(self, target: str) -> None:
        address = target.partition("/v1/")[0]
        page = (
            f'<form method="post" action="{target}"><button>Win a prize</button></form>'
            f'<iframe src="{address}"></iframe>'
        ).encode()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(page)

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> str:
        self._thread.start()
        return f"http://localhost:{self._server.server_address[1]}"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
