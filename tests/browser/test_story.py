"""A person's way through the console, with a real server and worker: from nothing to a verified receipt."""

import io
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from service.settings import Settings
from tests.instance import Instance, instance_of

SHORT = '{"schedule": {"steps": 250, "batch_size": 32}, "fisher_examples": 50}'
"""Params with which a job takes seconds."""
JOB_MS = 90_000


@pytest.fixture
def real(tmp_path: Path) -> Iterator[Instance]:
    """`palimpsest up`: a server, a sweeper and a worker."""
    with instance_of(Settings(home=tmp_path / "home"), tmp_path) as started:
        started.up()
        yield started


def archive(folder: Path) -> Path:
    """Write a zip of two labels, bars and circles, as a person would upload it."""
    grid = np.indices((28, 28))
    file = folder / "shapes.zip"
    with zipfile.ZipFile(file, "w") as packed:
        for index in range(10):
            bar = np.abs(grid[1] - 8 - index) < 3
            circle = np.abs(np.hypot(grid[0] - 14, grid[1] - 14) - 6 - index / 3) < 2
            for label, shape in (("bar", bar), ("circle", circle)):
                picture = io.BytesIO()
                Image.fromarray((shape * 255).astype(np.uint8)).save(picture, "PNG")
                packed.writestr(f"{label}/{index}.png", picture.getvalue())
    return file


def dialog(page: Page) -> Locator:
    return page.get_by_role("dialog")


def learn(page: Page, *labels: str) -> None:
    page.get_by_role("button", name="Learn…").click()
    for label in labels:
        dialog(page).get_by_role("checkbox", name=label).check()
    dialog(page).get_by_text("Params", exact=True).click()
    dialog(page).get_by_label("Params that differ").fill(SHORT)
    dialog(page).get_by_role("button", name="Learn").click()
    expect(page.locator("h1")).to_have_text(f"Learn {', '.join(labels)}")


def test_from_an_upload_to_a_verified_receipt(
    real: Instance, page: Page, tmp_path: Path, refusals: list[int]
) -> None:
    refusals.append(409)
    page.goto(f"{real.url}/datasets")
    page.get_by_role("button", name="Upload images").click()
    dialog(page).get_by_label("File").set_input_files(archive(tmp_path))
    dialog(page).get_by_role("button", name="Show").click()
    expect(dialog(page).get_by_role("img", name="The first images of circle")).to_be_visible()
    dialog(page).get_by_role("button", name="Keep").click()
    expect(page.get_by_role("article", name="shapes")).to_contain_text("uploaded, 20 images")

    page.get_by_role("link", name="Models").click()
    page.get_by_role("button", name="Create a model").click()
    dialog(page).get_by_label("Name").fill("drawings")
    dialog(page).get_by_label("Dataset").select_option("shapes")
    dialog(page).get_by_role("button", name="Create").click()
    expect(page.locator("h1")).to_have_text("drawings")

    learn(page, "bar", "circle")
    bar = page.get_by_role("progressbar", name="learn bar, circle")
    expect(bar).to_be_visible()
    expect(bar).not_to_have_js_property("value", 0, timeout=JOB_MS)
    state = page.locator(".job-state")
    expect(state).to_contain_text("It is done", timeout=JOB_MS)

    page.get_by_role("link", name="model drawings").click()
    page.get_by_role("button", name="Promote…").click()
    dialog(page).get_by_role("button", name="Promote").click()
    expect(page.get_by_role("list", name="Aliases")).to_contain_text("production is version 1")

    page.get_by_role("button", name="Forget circle").click()
    expect(dialog(page).locator(".consequences")).to_contain_text("Version 1 can no longer be drawn from")
    dialog(page).get_by_text("Params", exact=True).click()
    dialog(page).get_by_label("Params that differ").fill(SHORT[:-1] + ', "naive_steps": 3}')
    dialog(page).get_by_role("button", name="Forget").click()
    expect(state).to_contain_text("It is done", timeout=JOB_MS)

    receipt = page.get_by_role("region", name="Receipt")
    expect(receipt.get_by_role("status")).to_contain_text("Genuine", timeout=20_000)
    with page.expect_download() as download:
        receipt.get_by_role("link", name="download it").click()
    file = tmp_path / "receipt.json"
    download.value.save_as(file)
    verify = [sys.executable, "-m", "commands", "verify", str(file), "--url", real.url]
    verified = subprocess.run(verify, capture_output=True, text=True, check=False)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert "is genuine" in verified.stdout

    page.get_by_role("link", name="before and after").click()
    slider = page.get_by_role("slider", name="circle: how much of the picture before is shown")
    slider.focus()
    page.keyboard.press("End")
    expect(page.get_by_alt_text("circle: version 1, kept as evidence")).to_be_visible()
    page.get_by_role("link", name="drawings", exact=True).click()
    expect(page.get_by_role("img", name="circle, forgotten in version 2")).to_be_visible()

    page.get_by_role("button", name="Promote…").click()
    dialog(page).get_by_role("button", name="Promote").click()
    expect(page.get_by_role("list", name="Aliases")).to_contain_text("production is version 2")
    page.get_by_role("button", name="Roll back production").click()
    dialog(page).get_by_role("button", name="Roll back").click()
    expect(dialog(page).get_by_role("alert")).to_contain_text("Version 1 of model 'drawings' is revoked")
    expect(page.get_by_role("list", name="Aliases")).to_contain_text("production is version 2")
