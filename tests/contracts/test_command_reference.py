"""docs/command-line.md is what the command line says of itself."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_of_the_command_line_is_up_to_date(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    options = ["--name", "palimpsest", "--title", "The command line", "--output", str(page)]
    command = [sys.executable, "-m", "typer", "commands.main", "utils", "docs", *options]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    assert page.read_text() == (ROOT / "docs/command-line.md").read_text(), "run `make pages`"
