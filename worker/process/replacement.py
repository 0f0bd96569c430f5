"""End this worker process at once, even if a thread of it hangs, so that another takes its place.

Imports nothing but the standard library, because it also watches the start, before torch is imported.
"""

import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Thread
from typing import NoReturn

log = logging.getLogger(__name__)

EXIT_CODE = 75
"""EX_TEMPFAIL of sysexits.h: the next try may succeed."""
START_SECONDS = 300.0
"""How long the imports and the preparation of the device may take. Usually it is some seconds."""
BEAT_SECONDS = 1.0
BEAT = b"."


def exit_quickly(code: int) -> NoReturn:
    """End this process once all is done, without the interpreter's own end.

    That takes a second of CPU with PyTorch loaded, and longer where other processes compute.
    """
    logging.shutdown()
    _flush()
    os._exit(code)


def replace_process(*, supervised: bool, shutting_down: Callable[[], bool]) -> None:
    """End this process at once, without waiting for any thread. Does not return.

    supervised: a supervisor starts another worker. Otherwise this process begins anew, under the same id.
    """
    _flush()
    if not supervised and not shutting_down():
        with suppress(OSError):
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    os._exit(EXIT_CODE)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()


def exit_unless_started(seconds: float = START_SECONDS) -> Callable[[], None]:
    """End this process unless the returned function is called within so many seconds."""
    started = Event()

    def watch() -> None:
        if not started.wait(seconds):
            print(  # noqa: T201 - logging is not set up yet
                f"palimpsest: this worker is not ready after {seconds:g} s, so it ends: an import or the "
                "device hangs. Check the file system of the installation, and the device",
                file=sys.stderr,
                flush=True,
            )
            os._exit(EXIT_CODE)

    Thread(target=watch, name="start watchdog", daemon=True).start()
    return started.set


def start_beats(fd: int) -> None:
    """Write a byte to the pipe every second from now on, so that the supervisor knows this process runs.

    It stops if the process is suspended, or if some code never lets another thread run.
    """
    os.set_blocking(fd, False)

    def beat() -> None:
        pause = Event()
        while not pause.wait(BEAT_SECONDS):
            with suppress(BlockingIOError):
                try:
                    os.write(fd, BEAT)
                except BrokenPipeError:  # nobody reads; the supervisor ends, and this process with it
                    return

    Thread(target=beat, name="beats", daemon=True).start()
