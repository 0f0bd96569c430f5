"""Run commands against a server as people and programs do."""

import json
import os
import subprocess
import sys
from typing import Any

from typer.testing import CliRunner

from commands.main import app
from tests.api.serving import Served
from tests.commands.terminal import ROOT, Terminal


class Calls:
    """Runs commands as a program does: without a terminal."""

    def __init__(self, served: Served) -> None:
        self.environment = {"PALIMPSEST_URL": served.address, "PALIMPSEST_API_KEY": ""}
        self.error = ""

    def __call__(self, *command: str, code: int = 0) -> str:
        """Run a command that must end with this code; return its standard output."""
        ended = CliRunner().invoke(app, command, env=self.environment)
        assert ended.exit_code == code, (ended.output, ended.exception)
        self.error = ended.stderr
        return ended.stdout

    def json(self, *command: str) -> Any:
        return json.loads(self(*command, "--json"))

    def in_a_pipe(self, *command: str) -> bytes:
        """Run a command as a process of its own, and return the bytes of its standard output."""
        program = [sys.executable, "-m", "commands", *command]
        env = {**os.environ, **self.environment}
        return subprocess.run(program, env=env, cwd=ROOT, capture_output=True, check=True).stdout

    def at_terminal(self, *command: str, **options: Any) -> Terminal:
        return Terminal(*command, env=self.environment, **options)
