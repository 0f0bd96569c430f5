"""docs/command-line.md, docs/api.md and docs/errors.md are what the code says of itself."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from service.api.error_page import render_markdown
from service.documents import render_api_page

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_of_the_command_line_is_up_to_date(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    options = ["--name", "palimpsest", "--title", "The command line", "--output", str(page)]
    command = [sys.executable, "-m", "typer", "commands.main", "utils", "docs", *options]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    assert page.read_text() == (ROOT / "docs/command-line.md").read_text(), "run `make pages`"


@pytest.mark.parametrize(("name", "render"), [("api.md", render_api_page), ("errors.md", render_markdown)])
def test_the_pages_of_the_api_are_up_to_date(name: str, render: Callable[[], str]) -> None:
    assert render() == (ROOT / "docs" / name).read_text(), "run `make pages`"
