"""A client that openapi-python-client generates from the document runs the five calls, as the page says."""

from pathlib import Path

import pytest
from PIL import Image

from palimpsest import Palimpsest
from palimpsest.local_server import local_server
from tests.readme.documents import ADDRESS, blocks, run_shell

PAGE = "docs/how-to/another-language.md"


@pytest.mark.slow
@pytest.mark.usefixtures("shell")
def test_a_generated_client_runs_the_five_calls(tmp_path: Path) -> None:
    (configuration,) = blocks(PAGE, "yaml")
    (commands,) = blocks(PAGE, "sh")
    (program,) = blocks(PAGE, "python")
    (tmp_path / "generator.yaml").write_text(configuration)
    (tmp_path / "home").mkdir()
    with local_server(tmp_path / "home") as address:
        run_shell(commands.replace("generate ", "generate --fail-on-warning "), tmp_path, address)
        program = program.replace('"steps": 300', '"steps": 30').replace(ADDRESS, address)
        (tmp_path / "five_calls.py").write_text(program)
        printed = run_shell("client/bin/python five_calls.py", tmp_path, address)
        with Palimpsest(address) as client:
            statuses = {label.name: label.status for label in client.models.get("generated").labels}

    assert printed.splitlines() == ["succeeded 1", "succeeded 2"]
    assert statuses["3"] == "forgotten"
    for name in ("before.png", "gone.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.format == "PNG"
