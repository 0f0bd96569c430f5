"""Stop a process on SIGTERM and Ctrl-C, within a bounded time."""

import logging
import os
import signal
from threading import Event, Timer
from types import FrameType

log = logging.getLogger(__name__)

STOP_SECONDS = 15.0
"""How long a process may take to stop, whatever hangs: the grace of the worker's job, and some seconds."""


def stop_on_signals() -> Event:
    """Return an event that SIGTERM and Ctrl-C set. STOP_SECONDS later at the latest, this process ends."""
    stop = Event()

    def on_signal(number: int, _: FrameType | None) -> None:
        log.info("received %s: stopping", signal.Signals(number).name)
        if not stop.is_set():
            last_resort = Timer(STOP_SECONDS, _exit_at_once)
            last_resort.daemon = True
            last_resort.start()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    return stop


def _exit_at_once() -> None:
    log.error("this process has not stopped within %g s, because something hangs: ending it", STOP_SECONDS)
    os._exit(1)
