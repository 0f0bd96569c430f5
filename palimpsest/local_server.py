"""Run a temporary local server: `palimpsest up` on a free port of this machine."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

READY = re.compile(r"^Palimpsest is ready at (http://\S+)$", re.MULTILINE)
START_SECONDS = 60.0
STOP_SECONDS = 20.0

NOT_INHERITED = (
    "PALIMPSEST_HOME",
    "PALIMPSEST_DATABASE_URL",
    "PALIMPSEST_BROKER_URL",
    "PALIMPSEST_HOST",
    "PALIMPSEST_AUTH",
)
"""Environment variables that would make the server store data outside `home`, listen elsewhere, or need
a key."""


class ServerFailed(Exception):
    """The server did not start. The message ends with the last lines of its log."""


@contextmanager
def local_server(
    home: Path, *, data: Path | None = None, variables: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Run a server for the duration of the `with` block, and yield its base URL once it is ready.

    home: an existing folder for all that the server writes (SQLite, broker, artifacts, server.log).
    data: the folder with datasets; by default a folder in `home`. variables: further settings of the server,
    PALIMPSEST_*.

    Needs `pip install 'palimpsest[worker]'`. Raises ServerFailed when the server does not start.
    """
    log = home / "server.log"
    inherited = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
    own = {"PALIMPSEST_HOME": str(home), "PYTHONUNBUFFERED": "1"}
    environment = {**inherited, **own, **(variables or {})}
    if data is not None:
        environment["PALIMPSEST_DATA"] = str(data)
    with log.open("wb") as output:
        server = subprocess.Popen(
            [Path(sys.executable).with_name("palimpsest"), "up", "--port", "0"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in a terminal signals only this process, which stops the server
        )
    try:
        yield wait_until_ready(server, log)
    finally:
        _stop(server)


def wait_until_ready(server: subprocess.Popen[bytes], log: Path) -> str:
    """Wait until the server writes its base URL to the log, and return the URL.

    Raises ServerFailed when the server exits, or is not ready within a minute.
    """
    written = ""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        written = log.read_text(errors="replace")
        if found := READY.search(written):
            return found.group(1)
        if server.poll() is not None:
            raise ServerFailed(f"the server ended with status {server.returncode}: {_last_lines(written)}")
        time.sleep(0.05)
    raise ServerFailed(f"the server was not ready within {START_SECONDS:g} s: {_last_lines(written)}")


def _last_lines(log: str, count: int = 3) -> str:
    return " / ".join(line.strip() for line in log.splitlines()[-count:]) or "its log is empty"


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
