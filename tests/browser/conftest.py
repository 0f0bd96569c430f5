"""A Chromium and a server of the test's own. What the browser's console warns about fails the test."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from service.settings import Settings
from tests.api.serving import Served, serving

WARNING_TYPES = ("error", "warning")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None:
        message = "chromium is not installed (apt-get install chromium)"
        if os.environ.get("CI") == "true":
            pytest.fail(message + "; with CI=true it is required")
        pytest.skip(message)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    """A server without models."""
    with serving(Settings(home=tmp_path / "home")) as served:
        yield served


@pytest.fixture
def refusals() -> list[int]:
    """The statuses with which the service refuses something in the test: Chromium warns of each of them."""
    return []


@pytest.fixture
def page(browser: Browser, refusals: list[int]) -> Iterator[Page]:
    """A page of 1200 x 900. The test fails if its console warns, or if it requests from another host."""
    context = browser.new_context(viewport={"width": 1200, "height": 900}, color_scheme="light")
    page = context.new_page()
    warnings: list[str] = []
    elsewhere: list[str] = []
    page.on("pageerror", lambda error: warnings.append(str(error)))
    page.on("console", lambda line: warnings.append(line.text) if line.type in WARNING_TYPES else None)
    page.on(
        "request",
        lambda sent: elsewhere.append(sent.url) if urlsplit(sent.url).hostname != "127.0.0.1" else None,
    )
    yield page
    context.close()
    expected = [
        "net::ERR_CONNECTION_REFUSED",
        *(f"responded with a status of {status} " for status in refusals),
    ]
    assert [text for text in warnings if not any(one in text for one in expected)] == []
    assert elsewhere == []
