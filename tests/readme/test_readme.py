"""The calls in the README do what it says when they are pasted into a shell."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from palimpsest import Palimpsest
from palimpsest.local_server import local_server

ROOT = Path(__file__).resolve().parents[2]
ADDRESS = "http://127.0.0.1:8000"


def calls() -> list[str]:
    """List the commands under "Five calls", one for each numbered comment."""
    section = (ROOT / "README.md").read_text().split("## Five calls")[1].split("\n## ")[0]
    block = re.search(r"```bash\n(.*?)```", section, flags=re.DOTALL)
    assert block is not None
    return [call for call in re.split(r"^(?=# \d\.)", block.group(1), flags=re.MULTILINE) if call]


@pytest.mark.usefixtures("shell")
def test_the_five_calls_and_the_program_of_the_readme_run_as_pasted(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with local_server(home) as address:
        answers = [run(call.replace(ADDRESS, address), tmp_path) for call in calls()]
        run_python(snippet().replace(ADDRESS, address), tmp_path)
        with Palimpsest(address) as client:
            statuses = {label.name: label.status for label in client.models.get("numbers").labels}

    created, *changes, drawn = answers
    assert json.loads(created)["name"] == "numbers"
    assert [json.loads(change)["operation"] for change in changes] == ["learn", "forget", "resize"]
    assert [json.loads(change)["state"] for change in changes] == ["succeeded"] * 3
    assert drawn == ""
    assert {name for name, status in statuses.items() if status == "permanent"} == {"0", "1", "2", "4", "5"}
    assert statuses["3"] == "forgotten"
    for name in ("numbers.png", "four.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.format == "PNG"


def snippet() -> str:
    """Return the program under "From Python"."""
    section = (ROOT / "README.md").read_text().split("## From Python")[1].split("\n## ")[0]
    block = re.search(r"```python\n(.*?)```", section, flags=re.DOTALL)
    assert block is not None
    return block.group(1)


def run_python(program: str, folder: Path) -> None:
    """Run the program in `folder`."""
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr


def run(call: str, folder: Path) -> str:
    """Run the call in `folder`; return what it prints."""
    shell = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", call], cwd=folder, capture_output=True, text=True, check=False
    )
    assert shell.returncode == 0, shell.stdout + shell.stderr
    return shell.stdout
