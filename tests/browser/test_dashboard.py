"""What the dashboard shows, as the browser renders it."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from service.settings import Settings
from tests.api.serving import Served, listening, serving


def tile(page: Page, label: str) -> Locator:
    return page.locator(f'.label:has(.name:text-is("{label}"))')


def loaded(page: Page, label: str) -> bool:
    """Whether the label's image is one that the browser has decoded."""
    image = tile(page, label).locator("img")
    return image.count() == 1 and bool(image.evaluate("img => img.complete && img.naturalWidth > 0"))


def wait_until_loaded(page: Page, label: str) -> None:
    image = tile(page, label).locator("img")
    expect(image).to_be_visible()
    image.evaluate("img => img.decode()")
    assert loaded(page, label)


def pixels(locator: Locator) -> np.ndarray:
    """Grey values (0 to 255) of what is on the screen there."""
    return np.asarray(Image.open(io.BytesIO(locator.screenshot())).convert("L"), dtype=float)


BOTH_FIGURES = "kept labels 95.1 %\nforgotten labels 1.2 %"


@pytest.fixture(scope="module")
def with_digits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with the model `digits`, for tests that change nothing."""
    with serving(Settings(home=tmp_path_factory.mktemp("home"))) as served:
        make_digits(served)
        yield served


def make_digits(server: Served) -> None:
    """Make a model that learned five labels, learned another, forgot one and was expanded."""
    server.model("digits")
    server.done("digits", "learn", labels=list("01234"))
    server.done("digits", "learn", labels=["5"])
    server.done("digits", "forget", labels=["3"])
    server.done("digits", "resize", policy="expand")


def test_without_models_it_says_how_to_create_one(server: Served, page: Page) -> None:
    page.goto(server.address)
    expect(page.get_by_role("heading", level=1)).to_have_text("Palimpsest")
    expect(page.get_by_role("heading", name="No models yet")).to_be_visible()
    commands = page.locator("pre")
    expect(commands).to_contain_text(f"curl {server.address}/v1/models --json")
    server.model("digits")
    expect(page.get_by_role("article", name="digits")).to_be_visible()
    expect(commands).to_have_count(0)


def test_every_label_shows_its_status_and_the_learned_ones_an_image(with_digits: Served, page: Page) -> None:
    page.goto(with_digits.address)
    expect(page.get_by_role("article", name="digits").locator(".label")).to_have_count(10)
    expected = {
        **dict.fromkeys("0124", "permanent"),
        "5": "permanent",
        "3": "forgotten",
        **dict.fromkeys("6789", "absent"),
    }
    for label, status in expected.items():
        expect(tile(page, label).locator(".status")).to_have_text(status)
    for label in "01245":
        wait_until_loaded(page, label)
        assert tile(page, label).locator("img").evaluate("img => img.naturalWidth") == 28 * 4
    for label in "36789":
        expect(tile(page, label).locator("img")).to_have_count(0)


def test_the_image_on_the_screen_is_the_one_that_the_newest_version_draws(
    with_digits: Served, page: Page
) -> None:
    page.goto(with_digits.address)
    wait_until_loaded(page, "0")
    drawn = with_digits.http.get("/v1/models/digits/versions/4/images/0/0.png").content
    ink = np.asarray(Image.open(io.BytesIO(drawn)), dtype=float)
    screen = Image.fromarray(pixels(tile(page, "0").locator("img")))
    seen = np.asarray(screen.resize((28, 28), Image.Resampling.BOX))
    assert np.corrcoef(seen.ravel(), ink.ravel())[0, 1] < -0.9, "dark where the version drew white"


def test_a_forgotten_label_has_a_hatched_tile_without_an_image(with_digits: Served, page: Page) -> None:
    page.goto(with_digits.address)
    forgotten = tile(page, "3")
    expect(forgotten.get_by_role("img", name="3, forgotten in version 3")).to_be_visible()
    hatched, blank = pixels(forgotten.locator(".thumbnail")), pixels(tile(page, "9").locator(".thumbnail"))
    inner, corner = (slice(8, -8), slice(8, -8)), (slice(8, 26), slice(8, 26))
    assert hatched[corner].std() > 2 * blank[corner].std(), "the hatching reaches the corners"
    assert hatched[inner].min() > 90, "the hatching is light: nothing of the digit shows"


def test_every_version_shows_what_it_changed_and_what_was_measured(with_digits: Served, page: Page) -> None:
    page.goto(with_digits.address)
    versions = page.locator(".version")
    expect(versions).to_have_count(4)
    expected = [
        ("Version 1", "learn 0 1 2 3 4", "revoked", "1.01 M parameters", "kept labels 95.1 %"),
        ("Version 2", "learn 5", "revoked", "1.02 M parameters", "kept labels 95.1 %"),
        ("Version 3", "forget 3", "labels 0 1 2 4 5", "1.03 M parameters", BOTH_FIGURES),
        ("Version 4", "resize +1 %", "labels 0 1 2 4 5", "1.04 M parameters", BOTH_FIGURES),
    ]
    for index, texts in enumerate(expected):
        for part, text in zip(("number", "change", "holds", "count", "figures"), texts, strict=True):
            expect(versions.nth(index).locator(f".{part}")).to_have_text(text)
    expect(page.locator(".summary")).to_have_text("dataset mnist · version 4 · 1.04 M parameters")


def test_a_running_jobs_bar_moves_and_its_label_gets_an_image(server: Served, page: Page) -> None:
    make_digits(server)
    page.goto(server.address)
    expect(page.locator("progress")).to_have_count(0)
    running = server.submit("digits", "learn", labels=["8"])
    server.submit("digits", "forget", labels=["0"])
    claim = server.worker.claim(running["id"])
    server.worker.progress(claim, "training", 100, 1000, 123.4)
    bar = page.get_by_role("progressbar", name="learn 8")
    expect(bar).to_have_js_property("value", 0.1)
    expect(page.locator(".job").first.locator(".detail")).to_contain_text("step 100 of 1,000 · loss 123.4")
    expect(page.locator(".job").nth(1)).to_contain_text("forget 0")
    expect(page.locator(".job").nth(1).locator(".state")).to_have_text("queued")
    expect(page.get_by_role("status")).to_have_text("1 model, 2 jobs in progress")
    server.worker.progress(claim, "training", 600, 1000, 99.0)
    expect(bar).to_have_js_property("value", 0.6)
    server.worker.progress(claim, "fisher", 0, 1, None)
    expect(page.locator(".job").first.locator(".detail")).to_have_text("fisher")
    expect(bar).not_to_have_attribute("value", "0")
    expect(bar).to_have_js_property("position", -1)  # a step of unknown length
    server.worker.finish(claim)
    expect(bar).to_have_count(0)
    expect(page.locator(".version")).to_have_count(5)
    wait_until_loaded(page, "8")


def test_a_job_that_failed_says_why(server: Served, page: Page) -> None:
    make_digits(server)
    server.worker.fail(server.worker.claim(server.submit("digits", "learn", labels=["8"])["id"]))
    page.goto(server.address)
    row = page.locator(".job")
    expect(row).to_contain_text("learn 8")
    expect(row.locator(".state")).to_have_text("failed")
    expect(row).to_contain_text("set PALIMPSEST_DATA")
    expect(row.locator("progress")).to_be_hidden()


def test_the_page_says_when_the_service_does_not_answer_and_recovers_with_it(
    tmp_path: Path, page: Page
) -> None:
    with serving(Settings(home=tmp_path / "other")) as served:
        served.model("digits")
        with listening(served.app) as address:
            page.goto(address)
            expect(page.get_by_role("article", name="digits")).to_be_visible()
        expect(page.get_by_role("status")).to_contain_text("does not answer", timeout=20_000)
        expect(page.get_by_role("article", name="digits")).to_be_visible()
        served.model("letters", dataset="letters")
        with listening(served.app, port=int(address.rpartition(":")[2])):
            expect(page.get_by_role("article", name="letters")).to_be_visible(timeout=20_000)
            expect(page.get_by_role("status")).to_have_text("2 models, no jobs in progress")


def test_the_keyboard_reaches_an_image_and_draws_another(with_digits: Served, page: Page) -> None:
    page.goto(with_digits.address)
    wait_until_loaded(page, "0")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the models")).to_be_focused()
    button = tile(page, "0").get_by_role("button", name="0 as version 4 draws it")
    page.keyboard.press("Tab")
    expect(button).to_be_focused()
    first = tile(page, "0").locator("img").get_attribute("src")
    page.keyboard.press("Enter")
    expect(tile(page, "0").locator("img")).not_to_have_attribute("src", str(first))
    wait_until_loaded(page, "0")
    expect(button).to_be_focused()


@pytest.mark.parametrize("width", [320, 390, 768, 1200])
def test_nothing_runs_off_the_side_of_any_screen(with_digits: Served, page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(with_digits.address)
    expect(page.locator(".version")).to_have_count(4)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    newest = page.locator(".version").last.bounding_box()
    assert newest is not None
    assert newest["x"] < width, "the list is scrolled to its newest version"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_colour_is_readable_on_every_background(
    with_digits: Served, page: Page, scheme: str
) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(with_digits.address)
    colours = {
        name: page.evaluate(f"getComputedStyle(document.documentElement).getPropertyValue('--{name}').trim()")
        for name in ("page", "card", "inset", "text", "muted", "red", "green")
    }
    for text in ("text", "muted", "red", "green"):
        for background in ("page", "card", "inset"):
            assert contrast(colours[text], colours[background]) >= 4.5, f"{text} on {background}"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_text_stands_on_an_ornament(with_digits: Served, page: Page, scheme: str) -> None:
    """Every text has a plain colour behind it: going outwards, that comes before any background image."""
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    for path in ("/", "/v1/models/digits/versions/3/report"):
        page.goto(with_digits.address + path)
        expect(page.get_by_role("heading", level=2).first).to_be_visible()
        assert page.evaluate(TEXTS_ON_ORNAMENT) == []


TEXTS_ON_ORNAMENT = """() => {
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim();
    let node = walker.currentNode.parentElement;
    if (!text || node.closest("noscript, script")) continue;
    for (; node; node = node.parentElement) {
      const { backgroundColor, backgroundImage, opacity } = getComputedStyle(node);
      if (backgroundImage !== "none" || opacity !== "1") { found.push(text); break; }
      if (backgroundColor !== "rgba(0, 0, 0, 0)") break;
    }
  }
  return found;
}"""


def contrast(one: str, other: str) -> float:
    """WCAG 2's contrast ratio of two #rrggbb colours."""
    darker, lighter = sorted(luminance(colour) for colour in (one, other))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def test_the_page_allows_itself_nothing_from_elsewhere(server: Served) -> None:
    answer = server.http.get("/")
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    for word in ("style=", "onclick", "<style", "http://", "https://"):
        assert word not in answer.text
