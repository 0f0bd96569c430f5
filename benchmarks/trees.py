"""A commit as a folder, and the service of such a folder as a real deployment.

Nothing here is imported from the folder: its service is another process, started by the console script that
its own pyproject.toml names, with the current interpreter and a home, a port and a working folder of its own.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

NAME = "palimpsest"
READY = re.compile(r"ready at (http://\S+)$", re.MULTILINE)
START_SECONDS, STOP_SECONDS = 120.0, 30.0
KEPT_SETTINGS = ("PALIMPSEST_DATA", "PALIMPSEST_DEVICE", "PALIMPSEST_PRECISION", "PALIMPSEST_THREADS")
"""Of the surrounding settings, the only ones that a deployment here is given."""

START = """
import sys
from pathlib import Path
import {module}
if not Path({module}.__file__).resolve().is_relative_to(Path(sys.argv[1]).resolve()):
    sys.exit(f"{module} was imported from {{{module}.__file__}}")
sys.argv = ["palimpsest", *sys.argv[2:]]
{module}.{attribute}()
"""

RECORD = """
import atexit, json, os, sys

def record():
    files = {name: getattr(module, "__file__", None) for name, module in list(sys.modules.items())}
    with open(os.path.join(os.path.dirname(__file__), f"{os.getpid()}.json"), "w") as file:
        json.dump({name: path for name, path in files.items() if isinstance(path, str)}, file)

atexit.register(record)
"""
"""sitecustomize.py: every Python process of the deployment writes down, at its end, what it had imported."""


class TreeFailed(Exception):
    """The service of a tree did not start, did not last, or ran code of another place."""


def git(*arguments: str) -> str:
    """What git prints. Raises TreeFailed with what it complained about."""
    run = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    if run.returncode:
        raise TreeFailed(f"git {' '.join(arguments)}: {run.stderr.strip()}")
    return run.stdout.strip()


@contextmanager
def checked_out(revision: str, folder: Path) -> Iterator[Path]:
    """The commit as a git worktree in `folder`, for as long as the block lasts."""
    root = git("rev-parse", "--show-toplevel")
    try:
        git("-C", root, "worktree", "add", "--detach", "--quiet", str(folder), revision)
        yield folder
    finally:
        subprocess.run(
            ["git", "-C", root, "worktree", "remove", "--force", folder], capture_output=True, check=False
        )


def roots(tree: Path) -> list[Path]:
    """The folders of a tree that its packages are imported from, as its pyproject.toml says."""
    found = _project(tree).get("tool", {}).get("setuptools", {}).get("packages", {}).get("find", {})
    return [tree / folder for folder in found.get("where", ["."])]


def packages(tree: Path) -> set[str]:
    """The names of the importable packages of a tree."""
    return {path.parent.name for root in roots(tree) for path in root.glob("*/__init__.py")}


def console_script(tree: Path) -> tuple[str, str]:
    """(module, attribute) of the command `palimpsest`, from the tree's pyproject.toml."""
    module, _, attribute = _project(tree)["project"]["scripts"][NAME].partition(":")
    return module, attribute


def _project(tree: Path) -> dict[str, Any]:
    return tomllib.loads((tree / "pyproject.toml").read_text())


@contextmanager
def serving(tree: Path, folder: Path, foreign: Collection[str] = ()) -> Iterator[str]:
    """The base URL of the tree's service, which keeps everything in `folder` and ends with the block.

    At the end it is checked that each of its processes imported the project's packages from the tree.
    foreign: names of further packages that may not be imported from elsewhere.
    """
    hook, home, empty, log = (folder / name for name in ("hook", "home", "empty", "server.log"))
    for one in (hook, home, empty):
        one.mkdir(parents=True)
    (hook / "sitecustomize.py").write_text(RECORD)
    module, attribute = console_script(tree)
    start = START.format(module=module, attribute=attribute)
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-c", start, tree, "up", "--port", "0"],
            env=_environment(tree, hook, home),
            cwd=empty,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in the terminal reaches this process alone, which stops it
        )
    try:
        yield _url(server, log)
        if server.poll() is not None:
            raise TreeFailed(f"the service ended with {server.returncode}")
    except Exception:
        sys.stderr.write(f"the service's last lines: {_last_words(log)}\n")  # its log goes with the folder
        raise
    finally:
        _stop(server)
    check_imports(tree, hook, {*packages(tree), *_installed(), *foreign})


def _environment(tree: Path, hook: Path, home: Path) -> dict[str, str]:
    surroundings = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PALIMPSEST_") or name in KEPT_SETTINGS
    }
    if data := surroundings.get("PALIMPSEST_DATA"):
        surroundings["PALIMPSEST_DATA"] = str(Path(data).expanduser().absolute())  # it runs in another folder
    first = [*map(str, roots(tree)), str(hook), os.environ.get("PYTHONPATH")]
    return {
        **surroundings,
        "PALIMPSEST_HOME": str(home),
        "PYTHONPATH": os.pathsep.join(filter(None, first)),
        "PYTHONUNBUFFERED": "1",
    }


def _url(server: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if found := READY.search(log.read_text(errors="replace")):
            return found.group(1)
        if server.poll() is not None:
            raise TreeFailed(f"the service ended with {server.returncode}")
        time.sleep(0.05)
    raise TreeFailed(f"the service was not ready within {START_SECONDS:g} s")


def _last_words(log: Path, lines: int = 5) -> str:
    return " / ".join(log.read_text(errors="replace").splitlines()[-lines:]) or "it printed nothing"


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _installed() -> set[str]:
    """The packages that an installed release of the project would offer instead."""
    return {name for name, distributions in packages_distributions().items() if NAME in distributions}


def check_imports(tree: Path, hook: Path, own: Collection[str]) -> None:
    """Raises TreeFailed unless the service and its worker had the project's packages from the tree alone."""
    root, processes = tree.resolve(), 0
    for recorded in sorted(hook.glob("*.json")):
        modules = {
            name: Path(file).resolve()
            for name, file in json.loads(recorded.read_text()).items()
            if name.partition(".")[0] in own
        }
        if outside := [f"{name} ({file})" for name, file in modules.items() if not file.is_relative_to(root)]:
            raise TreeFailed(f"imported from outside {tree}: {', '.join(sorted(outside)[:3])}")
        processes += bool(modules)
    if processes < 2:
        raise TreeFailed(f"only {processes} of service and worker recorded what it had imported")
