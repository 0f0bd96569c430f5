"""Exports in the console: asked for, followed, their files listed, cancelled and deleted."""

from playwright.sync_api import Page, expect

from tests.api.serving import Served
from tests.browser.console import WAIT_MS, make_digits, serious, settled


def test_an_export_is_made_followed_and_deleted(server: Served, page: Page) -> None:
    make_digits(server)
    settled(page, f"{server.address}/models/digits/sample")
    page.get_by_role("button", name="Export many images…").click()
    dialog = page.get_by_role("dialog", name="Export images of digits")
    for label in ("2", "4", "5"):
        dialog.get_by_role("checkbox", name=label).uncheck()
    dialog.get_by_label("Images of each").fill("300")
    expect(dialog.locator(".consequences")).to_contain_text("600 images of 0 and 1")
    assert serious(page, "/sample, dialog") == []
    dialog.get_by_role("button", name="Export").click()
    exports = page.get_by_role("list", name="Exports")
    item = exports.get_by_role("listitem")
    expect(item).to_contain_text("queued", timeout=WAIT_MS)
    [export] = server.http.get("/v1/exports?model=digits").json()["data"]
    server.worker.export(export["id"])
    expect(item).to_contain_text("succeeded", timeout=WAIT_MS)
    assert serious(page, "/sample") == []
    item.get_by_role("button", name="Files of the export of").click()
    files = page.get_by_role("dialog").get_by_role("list", name="Files")
    expect(files.get_by_role("link")).to_have_text(["manifest.json", "shard-00000.npz"])
    page.get_by_role("dialog").get_by_role("button", name="Close").click()
    item.get_by_role("button", name="Delete the export of").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(exports.get_by_role("listitem")).to_have_count(0, timeout=WAIT_MS)


def test_a_cancelled_export_says_so(server: Served, page: Page) -> None:
    make_digits(server)
    server.http.post("/v1/models/digits/exports", json={"count": 10}).raise_for_status()
    settled(page, f"{server.address}/models/digits/sample")
    item = page.get_by_role("list", name="Exports").get_by_role("listitem").first
    item.get_by_role("button", name="Cancel the export of").click()
    expect(item).to_contain_text("cancelled", timeout=WAIT_MS)
