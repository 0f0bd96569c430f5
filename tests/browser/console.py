"""What tests of the console share: a model to look at, and how to wait for a page."""

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from tests.api.serving import Served

WAIT_MS = 15_000
"""An idle page may notice what another client did after several turns."""


def tile(page: Page, label: str) -> Locator:
    return page.locator(f'.label:has(.name:text-is("{label}"))')


def wait_until_loaded(page: Page, label: str) -> None:
    image = tile(page, label).locator("img")
    expect(image).to_be_visible(timeout=WAIT_MS)
    image.scroll_into_view_if_needed()
    image.evaluate("img => img.decode()")
    assert image.evaluate("img => img.naturalWidth > 0")


def make_digits(server: Served) -> None:
    """Make a model that learned five labels, learned another, forgot one and was expanded."""
    server.model("digits")
    server.done("digits", "learn", labels=list("01234"))
    server.done("digits", "learn", labels=["5"])
    server.done("digits", "forget", labels=["3"])
    server.done("digits", "resize", policy="expand")


def settled(page: Page, address: str) -> None:
    """Open an address and wait until it shows what it is about."""
    page.goto(address)
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    expect(page.locator("main[aria-busy=true]")).to_have_count(0)


def serious(page: Page, where: str) -> list[str]:
    """What axe finds serious or critical in what is shown now."""
    violations = Axe().run(page).response["violations"]
    return [
        f"{where}: {one['id']} at {node['target']}"
        for one in violations
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]
