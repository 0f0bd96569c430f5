"""What the page of a version's report shows, as the browser renders it."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from service.settings import Settings
from tests.api.serving import Served, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A model that learned 0 to 4 (version 1), forgot 3 (2), was expanded (3), learned 5 (4): 3 relapsed."""
    with serving(Settings(home=tmp_path_factory.mktemp("home"))) as served:
        served.model("digits")
        served.done("digits", "learn", labels=list("01234"))
        served.done("digits", "forget", labels=["3"])
        served.done("digits", "resize", policy="expand")
        served.worker.measure(served.worker.claim(served.submit("digits", "evaluate")["id"]))
        served.worker.relapses["3"] = 0.21
        served.done("digits", "learn", labels=["5"])
        yield served


def open_report(page: Page, server: Served, version: int) -> Page:
    page.goto(f"{server.address}/v1/models/digits/versions/{version}/report")
    return page


def headline(page: Page, title: str) -> str:
    return page.locator(".headlines li", has=page.get_by_role("heading", name=title)).inner_text()


def test_the_summary_comes_first(server: Served, page: Page) -> None:
    open_report(page, server, 4)
    expect(page.get_by_role("heading", level=1)).to_have_text("Version 4")
    expect(page.locator(".tagline")).to_have_text("learned 5 by replay ewc")
    assert "95.1 %" in headline(page, "Kept")
    assert "21.0 %" in headline(page, "Forgotten")
    assert "missed" in headline(page, "Forgotten")
    assert "none set" in headline(page, "Criteria")
    relapsed = headline(page, "Relapsed")
    assert "3" in relapsed
    assert "missed" in relapsed


def test_every_label_has_a_bar_as_long_as_its_share(server: Served, page: Page) -> None:
    open_report(page, server, 4)
    rows = page.locator(".shares li")
    expect(rows).to_have_count(6)
    track = rows.last.locator(".track").bounding_box()
    fill = rows.last.locator(".fill").bounding_box()
    assert track is not None
    assert fill is not None
    assert fill["width"] / track["width"] == pytest.approx(0.21, abs=0.01)
    expect(rows.last).to_contain_text("20.0 to 22.0 %")
    expect(rows.last).to_contain_text("n 1,000")
    expect(rows.last).to_contain_text("limit at most 5.0 %")
    expect(rows.last.locator(".verdict")).to_have_text("missed")


def test_a_forgotten_labels_curve_has_a_point_for_every_version_since(server: Served, page: Page) -> None:
    open_report(page, server, 3)
    chart = page.get_by_role("img", name="3: version 2: 1.2 %, version 3: 1.2 %, version 4: 21.0 %")
    points = chart.locator("circle")
    expect(points).to_have_count(3)
    heights = [float(points.nth(index).get_attribute("cy") or "nan") for index in range(3)]
    assert heights[0] == heights[1] > heights[2], "up is more"
    expect(points.nth(1)).to_have_class("point here")
    expect(points.nth(2)).to_have_class("point missed")


def test_images_show_before_and_after_and_what_a_forgotten_label_is_drawn_as(
    server: Served, page: Page
) -> None:
    open_report(page, server, 4)
    pictures = page.locator("section", has=page.get_by_role("heading", name="What it draws"))
    expect(pictures.get_by_alt_text("0 as version 3 drew it")).to_be_visible()
    expect(pictures.get_by_alt_text("0 as this version draws it")).to_be_visible()
    expect(pictures.get_by_alt_text("Sixteen images drawn for 3 after it was forgotten")).to_be_visible()
    for image in pictures.locator("img").all():
        image.scroll_into_view_if_needed()
        image.evaluate("img => img.decode()")
    new = pictures.locator("li").filter(has_text="this version")
    expect(new.locator(".name")).to_have_text("5")


def test_images_of_a_revoked_version_were_saved_for_the_labels_that_stay(server: Served, page: Page) -> None:
    open_report(page, server, 2)
    before = page.get_by_alt_text("0 as version 1 drew it")
    before.scroll_into_view_if_needed()
    before.evaluate("img => img.decode()")
    assert (before.get_attribute("src") or "").endswith("/versions/2/files/before-0.png")
    expect(page.get_by_text("Version 1 is revoked")).to_contain_text("were saved before")
    evidence = page.get_by_alt_text("Sixteen images drawn for 3 before it was forgotten")
    evidence.scroll_into_view_if_needed()
    evidence.evaluate("img => img.decode()")
    assert (evidence.get_attribute("src") or "").endswith("/versions/2/files/before-3.png")


def test_a_revoked_versions_files_are_listed_and_only_readable_ones_are_links(
    server: Served, page: Page
) -> None:
    open_report(page, server, 1)
    files = page.locator("ul.files")
    expect(files).to_contain_text("decoder.onnx")
    assert files.get_by_role("link").all_text_contents() == ["manifest.json", "report.json"]
    for link in files.get_by_role("link").all():
        assert server.http.get(link.get_attribute("href") or "").status_code == 200


def test_a_full_report_shows_its_figures_and_what_an_attack_recovered(server: Served, page: Page) -> None:
    open_report(page, server, 3)
    assert "of the figures with a limit" in headline(page, "Tests")
    row = page.get_by_role("row", name="3 · recovery")
    expect(row).to_contain_text("0.3, 0.5")
    expect(row).to_contain_text("missed")
    for network in ("this version", "a reference that never saw it"):
        image = page.get_by_alt_text(f"Search for 3 in {network}")
        image.scroll_into_view_if_needed()
        image.evaluate("img => img.decode()")
    expect(page.get_by_role("row", name="decoder.0")).to_contain_text("80.2")
    expect(page.locator(".facts")).to_contain_text("12 s: preparing under 1 s, learning 12 s")


def test_a_label_learned_again_has_its_curve_beside_the_references(server: Served, page: Page) -> None:
    open_report(page, server, 3)
    section = page.locator(
        "section", has=page.get_by_role("heading", name="How fast a forgotten label is learned again")
    )
    expect(section).to_contain_text("0.9 of the references' steps · memory 0.97 · limit >= 0.8")
    chart = section.get_by_role(
        "img", name="3 learned again, accuracy at the end: this version 100.0 % after 40 steps"
    )
    for word in ("accuracy", "90 %", "40 steps"):
        expect(chart).to_contain_text(word)
    expect(chart.locator(".reference")).to_have_count(2)
    mine = points(chart.locator(".candidate"))
    limit = float((chart.locator(".limit").get_attribute("d") or "").split()[1].partition("H")[0])
    assert len(mine) == 11
    assert mine == sorted(mine), "steps go to the right"
    assert mine[4][1] > limit > mine[5][1], "after 16 steps below 90 %, after 20 above"


def points(line: Locator) -> list[tuple[float, ...]]:
    """The points (x, y) of a polyline."""
    drawn = (line.get_attribute("points") or "").split()
    return [tuple(float(number) for number in point.split(",")) for point in drawn]


def test_the_console_links_to_the_report_and_the_report_back(server: Served, page: Page) -> None:
    page.goto(f"{server.address}/models/digits")
    page.locator(".version").get_by_role("link", name="Version 3").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Version 3")
    page.get_by_role("link", name="Version 4").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Version 4")
    page.get_by_role("link", name="digits", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("digits")


def test_a_relapse_is_marked_in_the_console(server: Served, page: Page) -> None:
    page.goto(f"{server.address}/models/digits")
    status = page.locator('.label:has(.name:text-is("3")) .status')
    expect(status).to_have_text("relapsed")
    page.get_by_role("link", name="all of it").click()
    expect(page.get_by_role("region", name="Label 3")).to_contain_text("relapsed")
    expect(page.get_by_role("img", name="3 since it was forgotten")).to_be_visible()


def test_nothing_runs_off_the_side_of_any_screen(server: Served, page: Page) -> None:
    for version in (1, 2, 3, 4):
        open_report(page, server, version)
        for width in (320, 390, 768, 1200):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_has_the_colours_of_the_console_light_and_dark(
    server: Served, page: Page, scheme: str
) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    ground = "getComputedStyle(document.body).backgroundColor"
    open_report(page, server, 3)
    here = page.evaluate(ground)
    page.goto(server.address)
    assert page.evaluate(ground) == here
