"""The calls in the README do what it says when they are pasted into a shell, also a second time."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from palimpsest import Palimpsest
from palimpsest.local_server import local_server
from tests.readme.documents import ROOT, blocks, run_python, run_shell

README = "README.md"
MOST_LINES = 120


@pytest.mark.slow
@pytest.mark.usefixtures("shell")
def test_the_five_calls_and_the_program_of_the_readme_run_as_pasted(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (block,) = blocks(README, "bash", section="Five calls")
    (program,) = blocks(README, "python", section="From Python")
    block, program = (text.replace('"steps": 300', '"steps": 30') for text in (block, program))
    calls = [call for call in re.split(r"^(?=# \d\.)", block, flags=re.MULTILINE) if call]
    with local_server(home) as address:
        created, learned, _, forgot, _ = [run_shell(call, tmp_path, address) for call in calls]
        run_python(program, tmp_path, address)
        with Palimpsest(address) as client:
            statuses = {label.name: label.status for label in client.models.get("numbers").labels}
        run_shell(command_to_begin_again(), tmp_path, address)
        run_shell(calls[0], tmp_path, address)

    assert json.loads(created)["name"] == "numbers"
    assert [json.loads(one)["operation"] for one in (learned, forgot)] == ["learn", "forget"]
    assert [json.loads(one)["state"] for one in (learned, forgot)] == ["succeeded"] * 2
    assert {name for name, status in statuses.items() if status == "permanent"} == {"0", "1", "2", "4", "5"}
    assert statuses["3"] == "forgotten"
    for name in ("before.png", "gone.png", "four.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.format == "PNG"


def command_to_begin_again() -> str:
    found = re.search(r"To begin again, delete the model: `([^`]+)`", (ROOT / README).read_text())
    assert found is not None
    return found.group(1)


def test_the_readme_is_short_and_needs_no_newer_curl_than_ubuntu_22_has() -> None:
    text = (ROOT / README).read_text()
    assert len(text.splitlines()) < MOST_LINES
    assert not any("--json" in call for call in blocks(README, "bash", section="Five calls"))
