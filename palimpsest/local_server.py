"""A Palimpsest of one's own for a while: `palimpsest up` on a free loopback port, with a home of its own."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

READY = re.compile(r"^Palimpsest is ready at (http://\S+)$", re.MULTILINE)
START_SECONDS = 60.0
STOP_SECONDS = 20.0

OWN_HOME = ("PALIMPSEST_HOME", "PALIMPSEST_DATABASE_URL", "PALIMPSEST_BROKER_URL", "PALIMPSEST_HOST")
"""What the surroundings may not decide for a server that keeps everything in its own home."""


class ServerFailed(Exception):
    """The server did not start or did not last; the message ends with its last words."""


@contextmanager
def running(home: Path, *, data: Path | None = None) -> Iterator[str]:
    """Serve from `home` until the block ends; gives the base URL once the server is ready.

    Everything stays in `home` (SQLite, a folder as broker, server.log), but for the datasets in `data`. The
    server is stopped however the block ends. Raises ServerFailed when it does not become ready.
    """
    log = home / "server.log"
    surroundings = {name: value for name, value in os.environ.items() if name not in OWN_HOME}
    environment = {**surroundings, "PALIMPSEST_HOME": str(home), "PYTHONUNBUFFERED": "1"}
    if data is not None:
        environment["PALIMPSEST_DATA"] = str(data)
    with log.open("wb") as output:
        server = subprocess.Popen(
            [Path(sys.executable).with_name("palimpsest"), "up", "--port", "0"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in the terminal reaches us alone; we stop the server
        )
    try:
        yield until_ready(server, log)
    finally:
        _stop(server)


def until_ready(server: subprocess.Popen[bytes], log: Path) -> str:
    """The base URL a starting server tells in its log. Raises ServerFailed when it ends or stays silent."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        said = log.read_text(errors="replace")
        if found := READY.search(said):
            return found.group(1)
        if server.poll() is not None:
            raise ServerFailed(f"the server ended with {server.returncode}: {_last_words(said)}")
        time.sleep(0.05)
    raise ServerFailed(f"the server was not ready within {START_SECONDS:g} s: {_last_words(said)}")


def _last_words(said: str, lines: int = 3) -> str:
    return " / ".join(line.strip() for line in said.splitlines()[-lines:]) or "it said nothing"


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
