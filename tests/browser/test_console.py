"""What the console shows, as the browser renders it. The worker is a stand-in for a real one."""

import io
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from service.settings import Settings
from tests.api.serving import Served, listening, serving
from tests.browser.console import WAIT_MS, make_digits, serious, settled, tile, wait_until_loaded
from tests.reports.made_up import WEAK

PAGES = [
    "/",
    "/models/digits",
    "/models/digits/compare",
    "/models/digits/relapse",
    "/models/digits/sample",
    "/jobs",
    "/datasets",
    "/keys",
    "/webhooks",
]
"""The pages that a test of every page visits; the page of a job and a report are added."""


def pixels(locator: Locator) -> np.ndarray:
    """Grey values (0 to 255) of what is on the screen there."""
    return np.asarray(Image.open(io.BytesIO(locator.screenshot())).convert("L"), dtype=float)


@pytest.fixture(scope="module")
def with_digits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with the model `digits`, for tests that change nothing."""
    with serving(Settings(home=tmp_path_factory.mktemp("home"))) as served:
        make_digits(served)
        yield served


def paths(server: Served) -> list[str]:
    """The address of every kind of page."""
    forget = server.http.get("/v1/jobs?model=digits").json()["data"][1]
    return [*PAGES, f"/jobs/{forget['id']}", "/v1/models/digits/versions/3/report"]


def test_without_models_it_says_how_to_create_one(server: Served, page: Page) -> None:
    settled(page, server.address)
    expect(page.get_by_role("heading", name="No models yet")).to_be_visible()
    commands = page.locator("pre")
    expect(commands).to_contain_text(f"curl {server.address}/v1/models ")
    server.model("digits")
    expect(page.get_by_role("article", name="digits")).to_be_visible(timeout=WAIT_MS)
    expect(commands).to_have_count(0)


def test_a_card_leads_to_its_model_and_the_search_finds_it(server: Served, page: Page) -> None:
    for name in ("digits", "letters", "more-digits"):
        server.model(name)
    settled(page, server.address)
    expect(page.get_by_role("article")).to_have_count(3)
    page.get_by_label("Search").fill("digits")
    expect(page.get_by_role("article")).to_have_count(2)
    page.get_by_role("link", name="more-digits").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("more-digits")


def test_every_label_shows_its_status_its_accuracy_and_an_image_if_it_is_held(
    with_digits: Served, page: Page
) -> None:
    settled(page, f"{with_digits.address}/models/digits")
    expect(page.locator(".labels .label")).to_have_count(10)
    expected = {
        **dict.fromkeys("01245", ("permanent", "95.1 %")),
        "3": ("forgotten", "drawn 1.2 %"),
        **dict.fromkeys("6789", ("absent", "")),
    }
    for label, (status, accuracy) in expected.items():
        expect(tile(page, label).locator(".status")).to_have_text(status)
        expect(tile(page, label).locator(".accuracy")).to_have_text(accuracy)
    expect(tile(page, "3")).to_contain_text("approximate")
    for label in "01245":
        wait_until_loaded(page, label)
    for label in "36789":
        expect(tile(page, label).locator("img")).to_have_count(0)


def test_the_image_on_the_screen_is_the_one_that_the_newest_version_draws(
    with_digits: Served, page: Page
) -> None:
    settled(page, f"{with_digits.address}/models/digits")
    wait_until_loaded(page, "0")
    drawn = with_digits.http.get("/v1/models/digits/versions/4/images/0/0.png").content
    ink = np.asarray(Image.open(io.BytesIO(drawn)), dtype=float)
    screen = Image.fromarray(pixels(tile(page, "0").locator("img")))
    seen = np.asarray(screen.resize((28, 28), Image.Resampling.BOX))
    assert np.corrcoef(seen.ravel(), ink.ravel())[0, 1] < -0.9, "dark where the version drew white"


def test_a_forgotten_label_has_a_hatched_tile_without_an_image(with_digits: Served, page: Page) -> None:
    settled(page, f"{with_digits.address}/models/digits")
    expect(page.get_by_role("img", name="3, forgotten in version 3")).to_be_visible()
    hatched, blank = (pixels(tile(page, label).locator(".face")) for label in "39")
    inner, corner = (slice(8, -8), slice(8, -8)), (slice(8, 26), slice(8, 26))
    assert hatched[corner].std() > 2 * blank[corner].std(), "the hatching reaches the corners"
    assert hatched[inner].min() > 90, "the hatching is light: nothing of the digit shows"


def test_every_version_shows_what_it_changed_and_what_was_measured(with_digits: Served, page: Page) -> None:
    settled(page, f"{with_digits.address}/models/digits")
    versions = page.locator(".version")
    expect(versions).to_have_count(4)
    expected = [
        ("resize +1.0 %", "draws 0 1 2 4 5", "1.04 M parameters", "kept 95.1 %, forgotten 1.2 %"),
        ("forget 3", "draws 0 1 2 4 5", "1.03 M parameters", "kept 95.1 %, forgotten 1.2 %"),
        ("learn 5", "revoked: nobody can draw from it", "1.02 M parameters", "kept 95.1 %"),
        ("learn 0 1 2 3 4", "revoked: nobody can draw from it", "1.01 M parameters", "kept 95.1 %"),
    ]
    for index, texts in enumerate(expected):
        for part, text in zip(("change", "holds", "count", "figures"), texts, strict=True):
            expect(versions.nth(index).locator(f".{part}")).to_have_text(text)
    graph = page.get_by_role("img", name="Lineage of 4 versions and the labels 0, 1, 2, 3, 4 and 5")
    expect(graph).to_be_visible()
    expect(graph.locator(".cross")).to_have_count(1)  # where 3 ends
    expect(page.get_by_role("img", name="Forgotten labels: version 3: 1.2 %, version 4")).to_be_visible()


def test_a_running_jobs_bar_moves_and_its_label_gets_an_image(server: Served, page: Page) -> None:
    make_digits(server)
    settled(page, f"{server.address}/models/digits")
    expect(page.locator("progress:visible")).to_have_count(0)
    running = server.submit("digits", "learn", labels=["8"])
    server.submit("digits", "forget", labels=["0"])
    claim = server.worker.claim(running["id"])
    server.worker.progress(claim, "training", 100, 1000, 123.4)
    bar = page.get_by_role("progressbar", name="learn 8")
    expect(bar).to_have_js_property("value", 0.1, timeout=WAIT_MS)
    jobs = page.get_by_role("list", name="Jobs of digits in progress").locator(".job")
    expect(jobs.nth(0).locator(".detail")).to_contain_text("step 100 of 1,000 · loss 123.4")
    expect(jobs.nth(1)).to_contain_text("forget 0")
    expect(jobs.nth(1).locator(".state")).to_have_text("queued")
    server.worker.progress(claim, "training", 600, 1000, 99.0)
    expect(bar).to_have_js_property("value", 0.6)
    server.worker.progress(claim, "fisher", 0, 1, None)
    expect(jobs.nth(0).locator(".detail")).to_have_text("fisher")
    expect(bar).to_have_js_property("position", -1)  # a step of unknown length
    server.worker.finish(claim)
    expect(page.locator(".version")).to_have_count(5, timeout=WAIT_MS)
    wait_until_loaded(page, "8")


def test_jobs_that_changed_nothing_stay_visible_with_their_reason(server: Served, page: Page) -> None:
    make_digits(server)
    server.worker.fail(server.worker.claim(server.submit("digits", "learn", labels=["8"])["id"]))
    server.worker.refuse(server.worker.claim(server.submit("digits", "learn", labels=["9"])["id"]))
    cancelled = server.submit("digits", "learn", labels=["7"])
    server.http.post(f"/v1/jobs/{cancelled['id']}/cancel")
    settled(page, f"{server.address}/models/digits")
    expect(page.get_by_role("region", name="The last job changed nothing")).to_contain_text("learn 7")
    ended = page.get_by_role("list", name="Jobs of digits that ended")
    failed = ended.locator(".job", has_text="learn 8")
    expect(failed.locator(".state")).to_have_text("failed")
    expect(failed).to_contain_text("set PALIMPSEST_DATA")
    expect(ended.locator(".job", has_text="learn 7").locator(".state")).to_have_text("cancelled")
    page.get_by_role("link", name="learn 9").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Learn 9")
    expect(page.get_by_role("status").filter(has_text="rejected")).to_contain_text("nothing was published")
    expect(page.locator(".criteria")).to_contain_text("retained accuracy min: 95.1 %, limit at least 99.0 %")
    page.get_by_role("button", name="Retry").click()
    page.get_by_role("dialog").get_by_role("button", name="Retry").click()
    expect(page.get_by_role("link", name="the job that it repeats")).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel the job").click()
    expect(page.locator(".job-state")).to_contain_text("cancelled")


def test_a_forget_says_what_will_happen_before_it_happens(server: Served, page: Page) -> None:
    make_digits(server)
    server.http.put("/v1/models/digits/aliases/production", json={"version": 4})
    settled(page, f"{server.address}/models/digits")
    page.get_by_role("button", name="Forget 0").click()
    dialog = page.get_by_role("dialog", name="Forget labels of digits")
    said = dialog.locator(".consequences")
    expect(dialog.get_by_role("checkbox", name="0")).to_be_checked()
    expect(said).to_contain_text("Versions 3 and 4 can no longer be drawn from")
    expect(said).to_contain_text("The alias production names such a version")
    expect(said).to_contain_text("Approximate")
    expect(said).to_contain_text("took 13 s")
    dialog.get_by_label("Strategy", exact=True).select_option("retrain")
    expect(said).to_contain_text("Exact: the weights are made anew")
    expect(said).to_contain_text("so its time is not known")
    dialog.get_by_label("Purge").check()
    expect(said).to_contain_text("are deleted for good")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(page.get_by_role("button", name="Forget 0")).to_be_focused()
    assert server.http.get("/v1/jobs?model=digits").json()["data"][0]["operation"] == "resize", (
        "nothing was sent"
    )


def test_what_the_service_refuses_is_said_in_the_dialog(
    server: Served, page: Page, refusals: list[int]
) -> None:
    refusals.append(422)
    make_digits(server)
    settled(page, f"{server.address}/models/digits")
    page.get_by_role("button", name="Learn…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("checkbox", name="8").check()
    dialog.get_by_text("Params", exact=True).click()
    dialog.get_by_label("Params that differ").fill('{"steps": 0}')
    dialog.get_by_role("button", name="Learn").click()
    expect(dialog.get_by_role("alert")).to_contain_text("steps")
    dialog.get_by_label("Params that differ").fill('{"steps": 5}')
    dialog.get_by_role("button", name="Learn").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Learn 8")


def test_a_version_is_deleted_and_stays_in_the_list(server: Served, page: Page) -> None:
    make_digits(server)
    settled(page, f"{server.address}/models/digits")
    page.get_by_role("button", name="Delete version 3").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.locator(".version").nth(1)).to_contain_text("deleted: its files are gone")
    expect(page.get_by_role("button", name="Delete version 4")).to_have_count(0)  # the head


def test_the_page_says_when_the_service_does_not_answer_and_recovers_with_it(
    tmp_path: Path, page: Page
) -> None:
    with serving(Settings(home=tmp_path / "other")) as served:
        served.model("digits")
        with listening(served.app) as address:
            settled(page, address)
            expect(page.get_by_role("article", name="digits")).to_be_visible()
        banner = page.locator("#banner")
        expect(banner).to_contain_text("does not answer", timeout=20_000)
        expect(page.get_by_role("article", name="digits")).to_be_visible()
        served.model("letters", dataset="letters")
        with listening(served.app, port=int(address.rpartition(":")[2])):
            expect(page.get_by_role("article", name="letters")).to_be_visible(timeout=20_000)
            expect(banner).to_be_hidden()


def test_a_banner_says_that_no_worker_takes_the_jobs(
    server: Served, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.api.health.STALLED_QUEUE_SECONDS", 0.0)
    server.model("digits")
    server.submit("digits", "learn", labels=["1"])
    settled(page, server.address)
    expect(page.locator("#banner")).to_contain_text("no worker takes them")


def test_the_keyboard_reaches_an_image_and_draws_another(with_digits: Served, page: Page) -> None:
    settled(page, f"{with_digits.address}/models/digits")
    wait_until_loaded(page, "0")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    button = tile(page, "0").get_by_role("button", name="0 as version 4 draws it")
    button.focus()
    first = tile(page, "0").locator("img").get_attribute("src")
    page.keyboard.press("Enter")
    expect(tile(page, "0").locator("img")).not_to_have_attribute("src", str(first))
    wait_until_loaded(page, "0")
    expect(button).to_be_focused()


def test_the_slider_shows_more_of_one_version_with_the_arrow_keys(with_digits: Served, page: Page) -> None:
    settled(page, f"{with_digits.address}/models/digits")
    slider = page.get_by_role("slider", name="0: how much of the picture before is shown")
    before = page.locator(".stack").filter(has=slider).locator(".before")
    slider.focus()
    page.keyboard.press("End")
    assert before.evaluate("img => img.style.clipPath") == "inset(0px 0% 0px 0px)"
    page.keyboard.press("Home")
    assert before.evaluate("img => img.style.clipPath") == "inset(0px 100% 0px 0px)"


def test_a_comparison_shows_what_changed(with_digits: Served, page: Page) -> None:
    settled(page, f"{with_digits.address}/models/digits/compare?from=2&to=3")
    expect(page.get_by_text("From version 2 to 3 the model forgot 3.")).to_be_visible()
    expect(page.get_by_role("row", name="kept").first).to_contain_text("95.1 %")
    evidence = page.get_by_alt_text("3: version 2, kept as evidence")
    evidence.evaluate("img => img.decode()")
    expect(page.get_by_text("Revoked: nobody may draw from it any more")).to_be_visible()


def test_a_receipt_is_shown_and_verified_in_the_browser(with_digits: Served, page: Page) -> None:
    settled(page, f"{with_digits.address}/models/digits")
    tile(page, "3").get_by_role("link", name="receipt").click()
    receipt = page.get_by_role("region", name="Receipt")
    expect(receipt.get_by_role("status")).to_contain_text("Genuine")
    expect(receipt).to_contain_text("3 of model digits, in version 3")
    receipt.get_by_text("weights").first.click()
    expect(receipt).to_contain_text("Its weights descend from weights that had learned them")


def test_a_weak_judges_figures_have_their_reason_wherever_they_are_read(server: Served, page: Page) -> None:
    server.worker.has_weak_judge = True
    make_digits(server)
    settled(page, f"{server.address}/models/digits")
    expect(page.get_by_text(f"recognises as their label. No verdict: {WEAK}.")).to_be_visible()
    page.get_by_role("button", name="Resize…").click()
    consequences = page.get_by_role("dialog").locator(".consequences")
    expect(consequences).to_contain_text("marked as relapsed, if the judge meets its own thresholds")
    page.keyboard.press("Escape")
    tile(page, "3").get_by_role("link", name="receipt").click()
    receipt = page.get_by_role("region", name="Receipt")
    expect(receipt).to_contain_text(f"1.2 % of 1,000 images are recognised as it; no verdict: {WEAK}")
    expect(receipt).to_contain_text(f"95.1 % recognised; no verdict: {WEAK}")
    expect(receipt).to_contain_text(f"1 of 1 met; {WEAK}")
    settled(page, f"{server.address}/models/digits/relapse")
    expect(page.get_by_role("region", name="Label 3")).to_contain_text(f"No verdict: {WEAK}.")
    job = server.submit("digits", "resize", policy="expand")
    server.worker.refuse(server.worker.claim(job["id"]))
    settled(page, f"{server.address}/jobs/{job['id']}")
    expect(page.locator(".criteria")).to_contain_text(f"limit at least 99.0 % missed; {WEAK}")


def test_a_receipt_of_another_key_is_not_genuine(with_digits: Served, page: Page) -> None:
    job = with_digits.http.get("/v1/jobs?model=digits").json()["data"][1]
    receipt = with_digits.http.get(job["links"]["receipt"]).json()
    receipt["signatures"][0]["sig"] = receipt["signatures"][0]["sig"][:-8] + "AAAAAAA="
    page.route("**/receipt", lambda route: route.fulfill(json=receipt))
    settled(page, f"{with_digits.address}/jobs/{job['id']}")
    expect(page.get_by_role("region", name="Receipt").get_by_role("status")).to_contain_text("Not genuine")


@pytest.mark.parametrize(("format", "suffix"), [("png_grid", "png"), ("webp", "webp")])
def test_the_playground_draws_what_its_command_would(
    with_digits: Served, page: Page, format: str, suffix: str
) -> None:
    settled(page, f"{with_digits.address}/models/digits/sample")
    page.get_by_label("Images of each").fill("5")
    page.get_by_label("Format").select_option(format)
    expect(page.locator("pre")).to_contain_text(f'"labels":["0","1","2"],"count":5,"format":"{format}"')
    expect(page.locator("pre")).to_contain_text(f"-o images.{suffix}")
    page.get_by_role("button", name="Draw").click()
    image = page.get_by_alt_text("Images of 0, 1, 2")
    image.evaluate("img => img.decode()")
    with_image = with_digits.http.get(image.get_attribute("src") or "")
    assert Image.open(io.BytesIO(with_image.content)).width == image.evaluate("img => img.naturalWidth")


def test_keys_are_created_shown_once_and_revoked(server: Served, page: Page) -> None:
    settled(page, f"{server.address}/keys")
    page.get_by_role("button", name="Create a key").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("nightly")
    dialog.get_by_role("button", name="Create").click()
    expect(page.locator("pre")).to_contain_text("pal_")
    page.get_by_role("button", name="Revoke nightly").click(timeout=WAIT_MS)
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(page.locator(".unusable")).to_contain_text("revoked")


def test_nothing_runs_off_the_side_of_any_screen(with_digits: Served, page: Page) -> None:
    for path in paths(with_digits):
        settled(page, with_digits.address + path)
        for width in (320, 390, 768, 1280, 1920):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{path} at {width}"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_has_no_serious_finding_on_any_page(with_digits: Served, page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    found = []
    for path in paths(with_digits):
        settled(page, with_digits.address + path)
        if path == "/models/digits":
            page.get_by_role("button", name="Forget 0").click()
            expect(page.get_by_role("dialog")).to_be_visible()
            found += serious(page, f"{path}, dialog")
            page.keyboard.press("Escape")
        found += serious(page, path)
    assert found == []


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
    for path in ("/", "/models/digits", "/v1/models/digits/versions/3/report"):
        settled(page, with_digits.address + path)
        assert page.evaluate(TEXTS_ON_ORNAMENT) == []


TEXTS_ON_ORNAMENT = """() => {
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim();
    let node = walker.currentNode.parentElement;
    if (!text || node.closest("noscript, script, :disabled")) continue;
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


def test_a_page_weighs_little_and_an_idle_one_asks_little(with_digits: Served, page: Page) -> None:
    sizes: list[int] = []
    page.on("response", lambda answer: sizes.append(len(answer.body())) if answer.status == 200 else None)
    settled(page, f"{with_digits.address}/models/digits")
    page.wait_for_load_state("networkidle")
    assert sum(sizes) < 300_000
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    assert paint < 1000
    moments: list[float] = page.evaluate(
        """async () => {
          performance.clearResourceTimings();
          const asked = () => performance.getEntriesByType("resource").map((one) => one.startTime);
          while (asked().length < 4) await new Promise((resolve) => setTimeout(resolve, 50));
          return asked();
        }"""
    )
    assert min(later - earlier for earlier, later in itertools.pairwise(moments)) > 2000


def test_the_page_allows_itself_nothing_from_elsewhere(server: Served) -> None:
    answer = server.http.get("/")
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    for word in ("style=", "onclick", "<style", "http://", "https://"):
        assert word not in answer.text
