"""A restored service does not bring back what was forgotten since its backup."""

import subprocess
import sys
from pathlib import Path

from service.settings import Settings
from tests.recovery.deployments import Deployment, settings


def palimpsest(deployment: Settings, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "commands", *command],
        env=deployment.as_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_commands_refuse_to_forget_the_erasures_and_to_start_without_them(tmp_path: Path) -> None:
    original = Deployment(settings("sqlite", tmp_path / "home", ""))
    original.create("pages")
    original.work("learn", "1", "2")
    made = palimpsest(original.settings, "backup", str(tmp_path / "backup"))
    assert (made.returncode, made.stderr) == (0, "")
    original.work("forget", "2")
    there = settings("sqlite", tmp_path / "restored", "")
    nothing = palimpsest(there, "restore", str(tmp_path / "backup"), "--erasures", str(tmp_path / "none"))
    assert nothing.returncode == 1
    assert "unknown what was forgotten" in nothing.stderr
    done = palimpsest(there, "restore", str(tmp_path / "backup"), "--without-erasures")
    assert done.returncode == 0
    refused = palimpsest(there, "serve")
    assert refused.returncode == 1
    assert "replay-erasures" in refused.stderr
    replayed = palimpsest(there, "replay-erasures")
    assert "to be forgotten again: 2 of model pages" in replayed.stdout
    assert "0 erasures" in palimpsest(there, "replay-erasures").stdout
