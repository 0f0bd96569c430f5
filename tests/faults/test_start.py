"""An instance that cannot start writes the reason to stderr in one line and exits with code 1."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from service.settings import Settings


@pytest.fixture
def deployment(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", port=0)


def refusal(deployment: Settings, *command: str, **env: str) -> str:
    """Run `palimpsest <command>`, which must not start; return the one line that it writes to stderr."""
    ended = subprocess.run(
        [sys.executable, "-m", "commands", *command],
        env={**os.environ, **deployment.as_environment(), **env},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1, ended
    [line] = ended.stderr.splitlines()
    return line


def test_a_port_in_use_is_named(deployment: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refusal(deployment, "up", "--port", str(port))
    assert (
        said
        == f"palimpsest: cannot listen on 127.0.0.1:{port}: Address already in use; choose another --port"
    )


def test_a_home_that_is_a_file_is_named(deployment: Settings) -> None:
    deployment.home.write_text("in the way")
    assert (
        refusal(deployment, "up") == f"palimpsest: cannot use the home folder {deployment.home}: File exists"
    )


def test_a_database_that_is_down_is_named_with_its_reason(deployment: Settings) -> None:
    said = refusal(deployment, "serve", PALIMPSEST_DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")
    assert said.startswith(
        "palimpsest: the database does not answer; try again in a moment (connection failed"
    )


def test_a_setting_out_of_range_is_named(deployment: Settings) -> None:
    assert refusal(deployment, "up", PALIMPSEST_LEASE_SECONDS="-1").startswith(
        "palimpsest: PALIMPSEST_LEASE_SECONDS:"
    )


def test_a_device_that_does_not_exist_is_named(deployment: Settings) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "commands", "worker"],
        env={**os.environ, **deployment.as_environment(), "PALIMPSEST_DEVICE": "nowhere"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith(
        "palimpsest: PALIMPSEST_DEVICE=nowhere cannot be used here"
    )
