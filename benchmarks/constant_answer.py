"""An ASGI application that gives one constant answer: what HTTP alone costs on this machine.

It is served as the API is, by uvicorn with httptools and uvloop. CPU time differs by a factor of three
between machines, and between hours on a shared one. A figure of the API divided by that of this application,
from the same run, differs less.
"""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.responses import PlainTextResponse

application = PlainTextResponse("a constant answer")
LONGEST_QUEUE = 2048


@contextmanager
def serving() -> Iterator[tuple[str, int]]:
    """Serve the application on a free port; yield its URL and process id.

    The port is open at once, and who connects before the server has started waits for it.
    """
    with socket.create_server(("127.0.0.1", 0), backlog=LONGEST_QUEUE) as listening:
        options = ["--fd", str(listening.fileno()), "--loop", "uvloop", "--http", "httptools"]
        server = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", f"{__name__}:application", *options, "--no-access-log"],
            pass_fds=[listening.fileno()],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}", server.pid
        finally:
            server.terminate()
            server.wait(30)
