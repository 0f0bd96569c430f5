"""What a person sees on the dashboard, by asking the browser what it shows."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from service.settings import Settings
from tests.api.serving import Served, listening, serving


def face(page: Page, label: str) -> Locator:
    return page.locator(f'.label:has(.name:text-is("{label}"))')


def loaded(page: Page, label: str) -> bool:
    """Whether the label's face is a picture the browser has decoded."""
    image = face(page, label).locator("img")
    return image.count() == 1 and bool(image.evaluate("img => img.complete && img.naturalWidth > 0"))


def wait_until_loaded(page: Page, label: str) -> None:
    image = face(page, label).locator("img")
    expect(image).to_be_visible()
    image.evaluate("img => img.decode()")
    assert loaded(page, label)


def pixels(locator: Locator) -> np.ndarray:
    """What is on the screen there, as grey in 0..255."""
    return np.asarray(Image.open(io.BytesIO(locator.screenshot())).convert("L"), dtype=float)


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A finished book, for tests that only look."""
    with serving(Settings(home=tmp_path_factory.mktemp("book"))) as served:
        yield written(served)


def written(house: Served) -> Served:
    """A model that learned five labels, one more, forgot one and was made larger."""
    house.model("digits")
    house.done("digits", "learn", labels=list("01234"))
    house.done("digits", "learn", labels=["5"])
    house.done("digits", "forget", labels=["3"])
    house.done("digits", "resize", policy="expand")
    return house


def test_an_empty_house_says_how_to_begin(house: Served, page: Page) -> None:
    page.goto(house.address)
    expect(page.get_by_role("heading", level=1)).to_have_text("Palimpsest")
    expect(page.get_by_role("heading", name="Nothing is written yet")).to_be_visible()
    commands = page.locator("pre")
    expect(commands).to_contain_text(f"curl {house.address}/v1/models --json")
    house.model("digits")
    expect(page.get_by_role("article", name="digits")).to_be_visible()
    expect(commands).to_have_count(0)


def test_every_label_shows_its_status_and_the_held_ones_a_face(book: Served, page: Page) -> None:
    page.goto(book.address)
    expect(page.get_by_role("article", name="digits").locator(".label")).to_have_count(10)
    expected = {
        **dict.fromkeys("0124", "permanent"),
        "5": "permanent",
        "3": "forgotten",
        **dict.fromkeys("6789", "absent"),
    }
    for label, status in expected.items():
        expect(face(page, label).locator(".status")).to_have_text(status)
    for label in "01245":
        wait_until_loaded(page, label)
        assert face(page, label).locator("img").evaluate("img => img.naturalWidth") == 28 * 4
    for label in "36789":
        expect(face(page, label).locator("img")).to_have_count(0)


def test_a_face_on_the_screen_has_the_ink_of_the_head_version(book: Served, page: Page) -> None:
    page.goto(book.address)
    wait_until_loaded(page, "0")
    drawn = book.http.get("/v1/models/digits/versions/4/images/0/0.png").content
    ink = np.asarray(Image.open(io.BytesIO(drawn)), dtype=float)
    screen = Image.fromarray(pixels(face(page, "0").locator("img")))
    seen = np.asarray(screen.resize((28, 28), Image.Resampling.BOX))
    assert np.corrcoef(seen.ravel(), ink.ravel())[0, 1] < -0.9, "dark ink where the version drew white"


def test_a_forgotten_label_is_scraped_off_the_page(book: Served, page: Page) -> None:
    page.goto(book.address)
    scraped = face(page, "3")
    expect(scraped.get_by_role("img", name="3, forgotten in version 3")).to_be_visible()
    assert "line-through" in scraped.locator(".name").evaluate(
        "node => getComputedStyle(node).textDecoration"
    )
    marks, blank = pixels(scraped.locator(".face")), pixels(face(page, "9").locator(".face"))
    inner, corner = (slice(8, -8), slice(8, -8)), (slice(8, 26), slice(8, 26))
    assert marks[corner].std() > 2 * blank[corner].std(), "scratches run to the corners"
    assert marks[inner].min() > 90, "nothing of the digit's ink is left"


def test_versions_stand_on_a_line_with_what_each_did(book: Served, page: Page) -> None:
    page.goto(book.address)
    versions = page.locator(".version")
    expect(versions).to_have_count(4)
    expected = [
        ("v1", "learn 0 1 2 3 4", "revoked", "1.01 M", "kept 95.1 %"),
        ("v2", "learn 5", "revoked", "1.02 M", "kept 95.1 %"),
        ("v3", "forget 3", "holds 0 1 2 4 5", "1.03 M", "kept 95.1 %\nforgotten 1.2 %"),
        ("v4", "resize +1 %", "holds 0 1 2 4 5", "1.04 M", "kept 95.1 %\nforgotten 1.2 %"),
    ]
    for index, words in enumerate(expected):
        for part, text in zip(("number", "did", "held", "count", "figures"), words, strict=True):
            expect(versions.nth(index).locator(f".{part}")).to_have_text(text)
    expect(page.locator(".about")).to_have_text("mnist · version 4 · 1.04 M parameters")


def test_a_running_jobs_bar_moves_and_its_label_gets_a_face(house: Served, page: Page) -> None:
    book = written(house)
    page.goto(book.address)
    expect(page.locator("progress")).to_have_count(0)
    running = book.ask("digits", "learn", labels=["8"])
    book.ask("digits", "forget", labels=["0"])
    claim = book.worker.claim(running["id"])
    book.worker.progress(claim, "training", 100, 1000, 123.4)
    bar = page.get_by_role("progressbar", name="learn 8")
    expect(bar).to_have_js_property("value", 0.1)
    expect(page.locator(".job").first.locator(".detail")).to_contain_text("step 100 of 1,000 · loss 123.4")
    expect(page.locator(".job").nth(1)).to_contain_text("forget 0")
    expect(page.locator(".job").nth(1).locator(".state")).to_have_text("queued")
    expect(page.locator(".word")).to_have_text("1 model, 2 jobs at work")
    book.worker.progress(claim, "training", 600, 1000, 99.0)
    expect(bar).to_have_js_property("value", 0.6)
    book.worker.progress(claim, "fisher", 0, 1, None)
    expect(page.locator(".job").first.locator(".detail")).to_have_text("fisher")
    expect(bar).not_to_have_attribute("value", "0")
    expect(bar).to_have_js_property("position", -1)  # a step of unknown length
    book.worker.finish(claim)
    expect(bar).to_have_count(0)
    expect(page.locator(".version")).to_have_count(5)
    wait_until_loaded(page, "8")


def test_a_job_that_failed_says_why(house: Served, page: Page) -> None:
    book = written(house)
    book.worker.fail(book.worker.claim(book.ask("digits", "learn", labels=["8"])["id"]))
    page.goto(book.address)
    row = page.locator(".job")
    expect(row).to_contain_text("learn 8")
    expect(row.locator(".state")).to_have_text("failed")
    expect(row).to_contain_text("set PALIMPSEST_DATA")
    expect(row.locator("progress")).to_be_hidden()


def test_the_page_says_when_the_service_is_away_and_comes_back_with_it(tmp_path: Path, page: Page) -> None:
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
            expect(page.get_by_role("status")).to_have_text("2 models, at rest")


def test_the_keyboard_reaches_a_face_and_draws_another(book: Served, page: Page) -> None:
    page.goto(book.address)
    wait_until_loaded(page, "0")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="To the models")).to_be_focused()
    button = face(page, "0").get_by_role("button", name="0 as version 4 draws it")
    page.keyboard.press("Tab")
    expect(button).to_be_focused()
    first = face(page, "0").locator("img").get_attribute("src")
    page.keyboard.press("Enter")
    expect(face(page, "0").locator("img")).not_to_have_attribute("src", str(first))
    wait_until_loaded(page, "0")
    expect(button).to_be_focused()


@pytest.mark.parametrize("width", [320, 390, 768, 1200])
def test_nothing_runs_off_the_side_of_any_screen(book: Served, page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(book.address)
    expect(page.locator(".version")).to_have_count(4)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    newest = page.locator(".version").last.bounding_box()
    assert newest is not None
    assert newest["x"] < width, "the line is at its newest version"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_ink_can_be_read_on_every_page(book: Served, page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(book.address)
    colours = {
        name: page.evaluate(f"getComputedStyle(document.documentElement).getPropertyValue('--{name}').trim()")
        for name in ("page", "leaf", "scraped", "ink", "soft", "rubric", "green")
    }
    for ink in ("ink", "soft", "rubric", "green"):
        for ground in ("page", "leaf", "scraped"):
            assert contrast(colours[ink], colours[ground]) >= 4.5, f"{ink} on {ground}"


def contrast(one: str, other: str) -> float:
    """WCAG 2's contrast ratio of two #rrggbb colours."""
    darker, lighter = sorted(luminance(colour) for colour in (one, other))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def test_the_page_allows_itself_nothing_from_elsewhere(house: Served) -> None:
    answer = house.http.get("/")
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    for word in ("style=", "onclick", "<style", "http://", "https://"):
        assert word not in answer.text
