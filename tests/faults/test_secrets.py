"""No command shows a part of a password, whatever is wrong with the URL that contains it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.settings import Settings
from tests.instance import instance_of, wait_for

SECRET = "hunter2"
DATABASES = [
    f"postgresql://me:x@{SECRET}@127.0.0.1:1/pages",
    f"postgresql://me:x@{SECRET}/y@127.0.0.1:1/pages",
    f"postgresql://me:{SECRET}#/?@127.0.0.1:1/pages",
    f"postgresql://me:{SECRET}@no-such-host.invalid/pages",
    f"postgresql://me:x@127.0.0.1:{SECRET}/pages",
    f"mysql://me:{SECRET}@127.0.0.1/pages",
]
BROKERS = [f"redis://:{SECRET}#x@127.0.0.1:1/0", f"redis://:x/{SECRET}@127.0.0.1:1/0"]


def output_of(deployment: Settings, *command: str, **env: str) -> str:
    """Run the command, which must not work; return all that it wrote."""
    ended = subprocess.run(
        [sys.executable, "-m", "commands", *command],
        env={**os.environ, **deployment.as_environment(), "PALIMPSEST_LOG_LEVEL": "debug", **env},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode != 0
    return ended.stdout + ended.stderr


@pytest.mark.parametrize(
    ("url", "command"),
    [*((url, "migrate") for url in DATABASES), (DATABASES[2], "up"), (DATABASES[3], "doctor")],
)
def test_a_database_url_that_fails_is_never_shown(url: str, command: str, tmp_path: Path) -> None:
    said = output_of(Settings(home=tmp_path, port=0), command, PALIMPSEST_DATABASE_URL=url)
    assert said
    assert SECRET not in said


@pytest.mark.parametrize("url", BROKERS)
def test_a_malformed_broker_url_is_never_shown(url: str, tmp_path: Path) -> None:
    said = output_of(Settings(home=tmp_path, port=0), "sweep", "--once", PALIMPSEST_BROKER_URL=url)
    assert said.startswith("palimpsest: PALIMPSEST_BROKER_URL: ")
    assert SECRET not in said


def test_processes_whose_broker_does_not_answer_never_show_its_password(tmp_path: Path) -> None:
    broker = f"redis://:{SECRET}@127.0.0.1:1/0"
    deployment = Settings(home=tmp_path / "home", port=0, broker_url=broker, log_level="debug")
    with instance_of(deployment, tmp_path) as instance:
        instance.up()
        instance.create()
        instance.submit("learn", labels=["0"])
        wait_for("the worker has tried", lambda: "Cannot connect to" in instance.log.read_text())
        said = instance.log.read_text()
    assert SECRET not in said
