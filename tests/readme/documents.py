"""Read commands and programs out of documents, and run them as a reader would paste them."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ADDRESS = "http://127.0.0.1:8000"


def blocks(document: str, language: str, *, section: str | None = None) -> list[str]:
    """Return the code blocks of a document that are marked with this language, in their order.

    section: the heading under which they stand; by default all of the document.
    """
    text = (ROOT / document).read_text()
    if section is not None:
        text = text.split(f"\n## {section}\n")[1].split("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def run_shell(commands: str, folder: Path, address: str) -> str:
    """Run the commands in `folder`, against the service at this address; return what they print.

    They are run by one shell. The command `palimpsest` is that of this environment.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    shell = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands.replace(ADDRESS, address)],
        cwd=folder,
        env={**os.environ, "PATH": path, "PALIMPSEST_URL": address, "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",  # where there is no terminal, `palimpsest sample` prints a PNG
        check=False,
    )
    assert shell.returncode == 0, shell.stdout + shell.stderr
    return shell.stdout


def run_python(program: str, folder: Path, address: str) -> None:
    """Run the program in `folder`."""
    ended = subprocess.run(
        [sys.executable, "-c", program.replace(ADDRESS, address)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
