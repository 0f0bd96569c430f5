"""`palimpsest --help` is quick, and every command's help has an example that the command accepts."""

import re
import shlex
import subprocess
import sys
from typing import Any

import pytest
import typer.core
import typer.main

from commands.main import app
from tests.contracts.test_images import takes

GROUP = typer.main.get_group(app)
COMMANDS = sorted(
    [
        *GROUP.commands,
        *(
            f"{name} {inner}"
            for name, command in GROUP.commands.items()
            if isinstance(command, typer.core.TyperGroup)
            for inner in command.commands
        ),
    ]
)
HEAVY = ("alembic", "celery", "fastapi", "httpx2", "numpy", "onnxruntime", "pydantic", "sqlalchemy", "torch")


def test_the_help_imports_none_of_the_large_libraries() -> None:
    probe = (
        "import sys; from typer.testing import CliRunner; from commands.main import app;"
        "print(CliRunner().invoke(app, ['--help']).exit_code);"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert ended.stdout.split("\n")[:2] == ["0", "[]"]


def find(name: str) -> Any:
    """Return a command by its name, or by those of its group and its own."""
    command: Any = GROUP
    for part in name.split():
        command = command.commands[part]
    return command


@pytest.mark.parametrize("name", COMMANDS)
def test_a_commands_help_has_an_example_that_it_accepts(name: str) -> None:
    example = re.search(r"Example: (?:PALIMPSEST_\w+=\S+ )?(palimpsest .*)", find(name).help or "")
    assert example is not None
    assert example.group(1).startswith(f"palimpsest {name}")
    takes(shlex.split(example.group(1)))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_fits_on_one_line_of_the_list(name: str) -> None:
    assert not find(name).get_short_help_str(limit=60).endswith("...")
