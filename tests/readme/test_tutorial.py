"""The commands of the tutorial run as pasted, and show what it says."""

from pathlib import Path

import pytest

from palimpsest import Palimpsest
from palimpsest.local_server import local_server
from tests.instance import wait_for
from tests.readme.documents import blocks, run_shell


@pytest.mark.slow
@pytest.mark.usefixtures("shell")
def test_the_tutorial_runs_as_pasted(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with local_server(home) as address:
        # At a terminal the commands wait for their jobs by themselves.
        commands = "".join(blocks("docs/tutorial.md", "bash"))
        waiting = commands.replace("palimpsest learn ", "palimpsest learn --wait ")
        waiting = waiting.replace("palimpsest forget ", "palimpsest forget --wait ")
        waiting = waiting.replace("steps=300", "steps=30")
        printed = run_shell(waiting, tmp_path, address)
        with Palimpsest(address) as client:
            wait_for("version 1 is purged", lambda: client.versions.get("numbers", 1).purged_by)
            versions = list(client.versions.list("numbers"))
    assert printed.count('"label_forgotten"') == 2  # the code of the answer, and that of the field
    assert printed.count('"version_revoked"') == 1
    assert "is genuine" in printed
    assert [version.operation for version in versions] == ["forget", "learn"]
    assert {path.name for path in tmp_path.glob("*.png")} == {"before.png", "after.png", "forgotten-3.png"}
