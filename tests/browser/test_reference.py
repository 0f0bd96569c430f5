"""The pages at /docs, as the browser renders them: the fixture `page` fails if another host is asked."""

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.api.serving import Served

WAIT_MS = 60_000


@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 390)])
def test_the_reference_shows_an_operation(server: Served, page: Page, scheme: str, width: int) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": width, "height": 844})
    page.goto(f"{server.address}/docs")
    operation = page.locator(".opblock", has=page.get_by_text("Create a model with a name")).first
    expect(operation).to_be_visible(timeout=WAIT_MS)
    operation.locator(".opblock-summary-control").click(timeout=WAIT_MS)
    expect(operation.get_by_text("model_exists").first).to_be_visible(timeout=WAIT_MS)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert contrast(operation.locator(".opblock-description p").first.evaluate(COLOURS)) >= 4.5


COLOURS = """node => {
  const found = [getComputedStyle(node).color];
  for (let one = node; one; one = one.parentElement) found.push(getComputedStyle(one).backgroundColor);
  return found;
}"""
"""The colour of a text, and the backgrounds behind it, the nearest first."""


def contrast(colours: list[str]) -> float:
    """Return the contrast (WCAG 2) of the first colour with the backgrounds behind it."""
    parsed = [[float(number) for number in re.findall(r"[0-9.]+", one)] for one in colours]
    behind = [255.0, 255.0, 255.0]
    for *rgb, alpha in ([*one, 1.0][:4] for one in reversed(parsed[1:])):
        behind = [new * alpha + old * (1 - alpha) for new, old in zip(rgb, behind, strict=True)]
    light, dark = sorted((luminance(parsed[0][:3]), luminance(behind)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(rgb: list[float]) -> float:
    linear = [one / 255 / 12.92 if one <= 10.3 else ((one / 255 + 0.055) / 1.055) ** 2.4 for one in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_type_of_an_error_leads_to_its_cause_and_cure(server: Served, page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    problem = server.http.get("/v1/models/nobody").json()
    page.goto(server.address + problem["type"])
    entry = page.locator(f"#{problem['code']}")
    expect(entry).to_be_in_viewport()
    expect(entry).to_contain_text("The project has no model of this name or id.")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert Axe().run(page).response["violations"] == []
