"""What the Dockerfile runs, copies and installs exists, and the `service` image has no PyTorch."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer.main

from commands.main import app
from service.settings import Settings
from tests.contracts.dockerfile import ROOT, Stage, read_stages

STAGES = read_stages()
IMAGES = ("service", "worker")
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def takes(command: list[str]) -> None:
    """Fail unless `palimpsest` understands the command line as it stands."""
    program, name, *arguments = command
    assert program == "palimpsest"
    group = typer.main.get_command(app)
    subcommand = group.get_command(None, name)  # type: ignore[attr-defined]
    assert subcommand is not None, f"there is no `palimpsest {name}`"
    if isinstance(subcommand, typer.core.TyperGroup):
        subcommand = subcommand.get_command(None, name := arguments.pop(0))  # type: ignore[arg-type]
        assert subcommand is not None, f"there is no such command: {command}"
    subcommand.make_context(name, list(arguments))


def extras_installed(stage: Stage) -> set[str]:
    """List the extras of this distribution that the stage installs."""
    return {extra for words in stage.all("RUN") for extra in re.findall(r'"\.\[(\w+)\]"', words)}


def test_a_dockerfile_linter_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    lint = subprocess.run([hadolint, "Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (lint.returncode, lint.stdout) == (0, "")


@pytest.mark.parametrize("image", IMAGES)
def test_what_an_image_runs_is_a_command_of_palimpsest(image: str) -> None:
    takes(STAGES[image].command)


@pytest.mark.usefixtures("git")
@pytest.mark.parametrize("image", IMAGES)
def test_what_an_image_copies_is_tracked_and_reaches_the_build(image: str) -> None:
    reaching = (ROOT / ".dockerignore").read_text().splitlines()
    for path in STAGES[image].copied:
        tracked = subprocess.run(["git", "ls-files", path], cwd=ROOT, capture_output=True, check=True)
        assert tracked.stdout, f"{path} is not in the repository"
        assert f"!{path}" in reaching, f"{path} is held back by .dockerignore"


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_installs_pinned_versions_and_only_extras_that_exist(image: str) -> None:
    installs = [words for words in STAGES[image].all("RUN") if "pip install" in words]
    assert installs
    assert all("--constraint constraints.txt" in words for words in installs)
    assert extras_installed(STAGES[image]) <= set(EXTRAS)


def test_only_the_worker_image_can_learn() -> None:
    assert "worker" in STAGES["worker"].copied
    assert extras_installed(STAGES["worker"]) == {"worker"}
    assert "worker" not in STAGES["service"].copied
    assert extras_installed(STAGES["service"]) == {"service"}


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_runs_as_a_user_without_rights(image: str) -> None:
    assert STAGES[image].all("USER")[-1] not in ("0", "root")


@pytest.mark.parametrize("image", IMAGES)
def test_the_variables_an_image_sets_are_settings(image: str) -> None:
    ours = [name for name in STAGES[image].environment if name.startswith("PALIMPSEST_")]
    assert ours
    assert {name.removeprefix("PALIMPSEST_").lower() for name in ours} <= set(Settings.model_fields)


def test_the_service_image_exposes_the_port_it_listens_on() -> None:
    command = STAGES["service"].command
    assert STAGES["service"].all("EXPOSE") == [command[command.index("--port") + 1]]
