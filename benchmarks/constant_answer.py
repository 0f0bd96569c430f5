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

import uvicorn
from starlette.responses import PlainTextResponse

application = PlainTextResponse("a constant answer")
LONGEST_QUEUE = 2048


@contextmanager
def serving() -> Iterator[tuple[str, int]]:
    """Serve the application on a free port; yield its URL and process id.

    The port is open at once, and who connects before the server has started waits for it.
    """
    with socket.create_server(("127.0.0.1", 0), backlog=LONGEST_QUEUE) as listening:
        server = subprocess.Popen(
            [sys.executable, "-m", __name__, str(listening.fileno())],
            pass_fds=[listening.fileno()],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}", server.pid
        finally:
            server.terminate()
            server.wait(30)


def main() -> None:
    """Serve on the socket whose descriptor is given. uvicorn's own option for that takes it for a Unix
    socket, and leaves out TCP_NODELAY, so that a client waits 40 ms for each answer.
    """
    config = uvicorn.Config(application, loop="uvloop", http="httptools", access_log=False)
    uvicorn.Server(config).run([socket.socket(fileno=int(sys.argv[1]))])


if __name__ == "__main__":
    main()
