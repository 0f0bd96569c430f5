"""Check out a commit into a folder, and run its service as a real deployment, or a script with its packages.

Nothing is imported from the folder. Its service is another process, which is started by the console script
in the folder's pyproject.toml, with the current interpreter and its own home, port and working folder. So is
a script.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

NAME = "palimpsest"
READY = re.compile(r"ready at (http://\S+)$", re.MULTILINE)
START_SECONDS, STOP_SECONDS = 120.0, 30.0
KEPT_SETTINGS = ("PALIMPSEST_DATA", "PALIMPSEST_DEVICE", "PALIMPSEST_PRECISION", "PALIMPSEST_THREADS")
"""The only settings of this process that a deployment inherits."""

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
"""Content of sitecustomize.py: every Python process of the deployment records at its end what it imported."""


class TreeFailed(Exception):
    """The service or script of a tree did not start, ended too early, or imported code from outside it."""


def git(*arguments: str) -> str:
    """Run git and return what it prints. Raises TreeFailed with its error message."""
    run = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    if run.returncode:
        raise TreeFailed(f"git {' '.join(arguments)}: {run.stderr.strip()}")
    return run.stdout.strip()


@contextmanager
def check_out(revision: str, folder: Path) -> Iterator[Path]:
    """Check the commit out as a git worktree in `folder`, and remove it at the end of the block."""
    root = git("rev-parse", "--show-toplevel")
    try:
        git("-C", root, "worktree", "add", "--detach", "--quiet", str(folder), revision)
        yield folder
    finally:
        subprocess.run(
            ["git", "-C", root, "worktree", "remove", "--force", folder], capture_output=True, check=False
        )


def package_roots(tree: Path) -> list[Path]:
    """Return the folders that the tree's packages are imported from, by its pyproject.toml."""
    found = _project(tree).get("tool", {}).get("setuptools", {}).get("packages", {}).get("find", {})
    return [tree / folder for folder in found.get("where", ["."])]


def package_names(tree: Path) -> set[str]:
    """Return the names of the importable packages of a tree."""
    return {path.parent.name for root in package_roots(tree) for path in root.glob("*/__init__.py")}


def console_script(tree: Path) -> tuple[str, str]:
    """Return (module, attribute) of the command `palimpsest`, from the tree's pyproject.toml."""
    module, _, attribute = _project(tree)["project"]["scripts"][NAME].partition(":")
    return module, attribute


def _project(tree: Path) -> dict[str, Any]:
    return tomllib.loads((tree / "pyproject.toml").read_text())


@contextmanager
def serve(tree: Path, folder: Path, other_packages: Collection[str] = ()) -> Iterator[str]:
    """Run the tree's service until the end of the block, with all its files in `folder`. Yields its base URL.

    Raises TreeFailed if it does not start, if it ends early, or if one of its processes imported a package of
    the project from outside the tree.
    other_packages: names of further packages that may only be imported from the tree.
    """
    hook, home, empty = _make_folders(folder)
    log = folder / "server.log"
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
            start_new_session=True,  # Ctrl-C reaches only this process, which stops the service
        )
    try:
        yield _url(server, log)
        if server.poll() is not None:
            raise TreeFailed(
                f"the service of {tree} exited with code {server.returncode} before it was stopped"
            )
    except Exception:
        sys.stderr.write(f"last lines of the service's log: {_last_lines(log)}\n")  # the log is deleted
        raise
    finally:
        _stop(server)
    check_imports(tree, hook, {*package_names(tree), *_installed_packages(), *other_packages})


def run_script(
    tree: Path,
    folder: Path,
    script: Path,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    other_packages: Collection[str] = (),
) -> None:
    """Run a Python script, wherever it lies, with the packages of the tree, in a process of its own.

    folder: for the files of the process. environment: variables besides those of this process.
    other_packages: as in `serve`.
    Raises TreeFailed if the script fails, or if it imported a package of the project from outside the tree.
    """
    hook, home, empty = _make_folders(folder)
    run = subprocess.run(
        [sys.executable, "-P", script, *arguments],  # -P: the script's folder is not on the path
        env=_environment(tree, hook, home) | dict(environment or {}),
        cwd=empty,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        said = run.stderr.strip() or "it printed nothing"
        raise TreeFailed(f"{script.name} with the packages of {tree}: exit code {run.returncode}\n{said}")
    own = {*package_names(tree), *_installed_packages(), *other_packages}
    check_imports(tree, hook, own, processes=1)


def _make_folders(folder: Path) -> tuple[Path, Path, Path]:
    """Make the folders of a process: for the record of its imports, its home, and an empty one to run in."""
    hook, home, empty = (folder / name for name in ("hook", "home", "empty"))
    for one in (hook, home, empty):
        one.mkdir(parents=True)
    (hook / "sitecustomize.py").write_text(RECORD)
    return hook, home, empty


def _environment(tree: Path, hook: Path, home: Path) -> dict[str, str]:
    surroundings = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PALIMPSEST_") or name in KEPT_SETTINGS
    }
    if data := surroundings.get("PALIMPSEST_DATA"):
        surroundings["PALIMPSEST_DATA"] = str(
            Path(data).expanduser().absolute()
        )  # because the service runs in another folder
    first = [*map(str, package_roots(tree)), str(hook), os.environ.get("PYTHONPATH")]
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
            raise TreeFailed(f"the service exited with code {server.returncode} before it was ready")
        time.sleep(0.05)
    raise TreeFailed(f"the service was not ready within {START_SECONDS:g} s")


def _last_lines(log: Path, lines: int = 5) -> str:
    return " / ".join(log.read_text(errors="replace").splitlines()[-lines:]) or "it printed nothing"


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _installed_packages() -> set[str]:
    """Return the packages of an installed release of the project, which could be imported by mistake."""
    return {name for name, distributions in packages_distributions().items() if NAME in distributions}


def check_imports(tree: Path, hook: Path, own: Collection[str], *, processes: int = 2) -> None:
    """Check that so many processes imported packages of the project, and from the tree only.

    hook: folder with the records of their imports. own: names of these packages. processes: how many at
    least; a service has a worker. Raises TreeFailed.
    """
    root, recording = tree.resolve(), 0
    for recorded in sorted(hook.glob("*.json")):
        modules = {
            name: Path(file).resolve()
            for name, file in json.loads(recorded.read_text()).items()
            if name.partition(".")[0] in own
        }
        if outside := [f"{name} ({file})" for name, file in modules.items() if not file.is_relative_to(root)]:
            raise TreeFailed(f"imported from outside {tree}: {', '.join(sorted(outside)[:3])}")
        recording += bool(modules)
    if recording < processes:
        raise TreeFailed(f"only {recording} of {processes} processes of {tree} recorded their imports")
