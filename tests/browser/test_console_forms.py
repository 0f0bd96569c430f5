"""The forms of the console for descriptions, webhooks and samples, and the images of datasets."""

import re
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from service.requests.catalog import read_catalog
from service.settings import Settings
from tests.api.serving import Served, serving
from tests.api.test_packages import BARS, NARROW, fade, offers, sign_in
from tests.browser.console import WAIT_MS, make_digits, serious, settled, tile
from tests.requests.archives import as_npz, doodles, drawings, npz


def test_a_model_and_a_version_are_described(server: Served, page: Page) -> None:
    make_digits(server)
    server.http.patch("/v1/models/digits", json={"metadata": {"old": "x"}})
    settled(page, f"{server.address}/models/digits")
    page.get_by_role("button", name="Describe…", exact=True).click()
    dialog = page.get_by_role("dialog", name="Describe digits")
    dialog.get_by_label("Description").fill("For the shop")
    dialog.get_by_label("Metadata").fill("team = vision\nno equals sign")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog.get_by_role("alert")).to_contain_text("as key = value")
    dialog.get_by_label("Metadata").fill("team = vision")
    dialog.get_by_role("button", name="Save").click()
    expect(page.get_by_text("For the shop")).to_be_visible(timeout=WAIT_MS)
    assert server.http.get("/v1/models/digits").json()["metadata"] == {"team": "vision"}
    page.get_by_role("button", name="Describe version 4").click()
    dialog = page.get_by_role("dialog", name="Describe version 4")
    dialog.get_by_label("Description").fill("the widest")
    dialog.get_by_role("button", name="Save").click()
    expect(page.locator(".version").first).to_contain_text("the widest", timeout=WAIT_MS)


def test_a_model_is_created_that_is_resized_after_each_job(server: Served, page: Page) -> None:
    settled(page, f"{server.address}/")
    page.get_by_role("button", name="Create a model").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("sized")
    dialog.get_by_label("Dataset").select_option("mnist")
    dialog.get_by_label("Size").select_option("auto")
    expect(dialog.locator(".consequences")).to_contain_text("another one chooses its width")
    assert serious(page, "/, dialog") == []
    dialog.get_by_role("button", name="Create").click()
    expect(page.get_by_text("Resized after each learn and forget.")).to_be_visible(timeout=WAIT_MS)
    page.get_by_role("button", name="Learn…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("checkbox", name="8").check()
    what = dialog.locator(".consequences")
    expect(what).to_contain_text("resizes the network by auto")
    dialog.get_by_label("Retention").select_option("temporary")
    expect(what).not_to_contain_text("resizes the network")
    dialog.get_by_label("Retention").select_option("permanent")
    dialog.get_by_label("Resize afterwards").select_option("none")
    expect(what).not_to_contain_text("resizes the network")
    dialog.get_by_label("Resize afterwards").select_option("prune")
    expect(what).to_contain_text("resizes the network by prune")
    dialog.get_by_role("button", name="Learn").click()
    page.get_by_role("link", name="the resize that follows it").click(timeout=WAIT_MS)
    expect(page.get_by_role("link", name="the job that it follows")).to_be_visible(timeout=WAIT_MS)
    expect(page.get_by_role("heading", level=1)).to_have_text("Resize by prune units")
    learn = server.http.get("/v1/jobs?model=sized&limit=2").json()["data"][1]
    server.worker.fail(server.worker.claim(learn["id"]))
    expect(page.get_by_role("region", name="State")).to_contain_text(
        f"was to follow job {learn['id']}, which ended as failed", timeout=WAIT_MS
    )


def test_temporary_labels_get_a_time_at_which_they_are_forgotten(server: Served, page: Page) -> None:
    make_digits(server)
    settled(page, f"{server.address}/models/digits")
    page.get_by_role("button", name="Learn…").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("Forget them")).to_be_hidden()
    dialog.get_by_role("checkbox", name="8").check()
    dialog.get_by_label("Retention").select_option("temporary")
    dialog.get_by_label("Forget them").select_option("own")
    dialog.get_by_label("Hours").fill("3")
    expect(dialog.locator(".consequences")).to_contain_text("The service forgets 8 by itself")
    dialog.get_by_role("button", name="Learn").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Learn 8")
    job = server.http.get("/v1/jobs?model=digits").json()["data"][0]
    assert job["expires_in"] == 3 * 3600
    server.worker.work(job["id"])
    settled(page, f"{server.address}/models/digits")
    expect(tile(page, "8").locator(".generation")).to_contain_text("until")
    expires = server.http.get("/v1/models/digits").json()["labels"][8]["expires_at"]
    assert abs(datetime.fromisoformat(expires) - datetime.now(UTC) - timedelta(hours=3)) < timedelta(hours=1)


def test_a_webhook_is_created_with_a_secret_shown_once_tried_and_deleted(
    server: Served, page: Page, refusals: list[int]
) -> None:
    refusals.append(422)
    settled(page, f"{server.address}/webhooks")
    page.get_by_role("button", name="Create a webhook").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Address").fill("https://127.0.0.1/hook")
    dialog.get_by_role("button", name="Create").click()
    expect(dialog.get_by_role("alert")).not_to_be_empty()
    dialog.get_by_label("Address").fill("https://1.1.1.1/hook")
    dialog.get_by_label("label.forgotten").check()
    dialog.get_by_role("button", name="Create").click()
    expect(page.locator("pre")).to_contain_text("whsec_")
    page.get_by_role("button", name="Send a test to https://1.1.1.1/hook").click(timeout=WAIT_MS)
    messages = page.get_by_role("region", name="Messages")
    expect(messages).to_contain_text("webhook.test", timeout=WAIT_MS)
    expect(messages).to_contain_text("pending")
    assert serious(page, "/webhooks") == []
    page.reload()
    page.get_by_role("button", name="Delete https://1.1.1.1/hook").click()
    expect(page.locator("pre")).to_have_count(0)
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_text("There is no webhook")).to_be_visible(timeout=WAIT_MS)


def test_recorded_samples_are_listed_and_deleted(server: Served, page: Page) -> None:
    make_digits(server)
    server.http.post("/v1/models/digits/samples", json={"labels": ["1", "2"], "count": 2, "seed": 41})
    settled(page, f"{server.address}/models/digits/sample")
    samples = page.get_by_role("region", name="Recorded samples")
    expect(samples).to_contain_text("2 of each · version 4 · seed 41")
    page.get_by_role("button", name="Draw", exact=True).click()
    expect(samples.get_by_role("listitem")).to_have_count(2)
    page.get_by_role("button", name="Delete the record of 1 2, seed 41").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(samples.get_by_role("listitem")).to_have_count(1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_dataset_shows_its_images(server: Served, page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    server.http.put(
        "/v1/datasets/doodles", content=as_npz(doodles()), headers={"Content-Type": "application/zip"}
    )
    settled(page, f"{server.address}/datasets")
    button = page.get_by_role("button", name="Images of ring in doodles")
    assert button.locator("img").evaluate("img => img.decode().then(() => img.naturalWidth)") == 56
    button.click()
    shown = page.get_by_role("dialog").get_by_role("img")
    assert shown.evaluate("img => img.decode().then(() => img.naturalWidth)") == 8 * 56
    assert serious(page, "/datasets, dialog") == []
    page.keyboard.press("Escape")
    expect(button).to_be_focused()
    assert serious(page, "/datasets") == []


def test_the_images_of_an_upload_are_shown_before_it_is_kept(server: Served, page: Page) -> None:
    images = drawings(labels=("tried",))["tried"]
    inverted = npz(x=255 - np.kron(images, np.ones((1, 2, 2), np.uint8)), y=["tried"] * 6)
    settled(page, f"{server.address}/datasets")
    page.get_by_role("button", name="Upload images").click()
    dialog = page.get_by_role("dialog")
    file = {"name": "tried.npz", "mimeType": "application/zip", "buffer": inverted}
    dialog.get_by_label("File").set_input_files(file)  # type: ignore[arg-type]
    dialog.get_by_label("Scale images").check()
    dialog.get_by_role("button", name="Show").click()
    expect(dialog).to_contain_text("the border of the images is bright")
    expect(dialog).to_contain_text("scaled to fit into 28x28")
    strip = dialog.get_by_role("img", name="The first images of tried")
    assert strip.evaluate("img => img.decode().then(() => img.naturalWidth)") == 6 * 28
    assert serious(page, "/datasets, keep?") == []
    assert server.http.get("/v1/datasets/tried").status_code == 404
    dialog.get_by_role("button", name="Keep").click()
    card = page.get_by_role("article", name="tried")
    expect(card).to_contain_text("uploaded, 6 images")
    card.get_by_text("warnings").click()
    expect(card).to_contain_text("the border of the images is bright")
    assert serious(page, "/datasets, kept") == []


def test_the_datasets_of_a_release_make_no_request_that_fails(
    page: Page, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The page knows which images there are: one that is not found would be an error in the console."""
    home = tmp_path_factory.mktemp("home")
    with serving(Settings(home=home, data=home / "none"), offered=read_catalog()) as served:
        settled(page, f"{served.address}/datasets")
        expect(page.get_by_role("article")).to_have_count(6)
        expect(page.locator("img")).to_have_count(10)
        assert page.locator("article", has_text=re.compile("^emnist")).first.locator("img").count() == 0
        page.wait_for_load_state("networkidle")
        assert serious(page, "/datasets") == []


def test_what_comes_from_another_package_is_marked(
    tmp_path_factory: pytest.TempPathFactory, page: Page
) -> None:
    with serving(Settings(home=tmp_path_factory.mktemp("home"))) as served:
        make_digits(served)
        sign_in(served, "a", offers(fade(), datasets=[BARS], architectures=[NARROW]))
        settled(page, f"{served.address}/models/digits")
        page.get_by_role("button", name="Forget…").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Strategy", exact=True).select_option("fade")
        chosen = dialog.get_by_label("Strategy", exact=True).locator("option:checked")
        expect(chosen).to_have_text("fade (approximate), from the package palimpsest-fade 1.0")
        expect(dialog.locator("p.note").first).to_contain_text("which is not a part of Palimpsest")
        dialog.get_by_role("checkbox", name="2").check()
        dialog.get_by_role("button", name="Forget").click()
        expect(page.locator("dd", has_text="strategy from palimpsest-fade")).to_be_visible(timeout=WAIT_MS)
        settled(page, f"{served.address}/datasets")
        expect(page.locator("article", has_text="Bars")).to_contain_text("from the package palimpsest-fade")
        settled(page, served.address)
        page.get_by_role("button", name="Create a model").click()
        expect(page.get_by_role("dialog").get_by_label("Network")).to_contain_text("(from the package")
