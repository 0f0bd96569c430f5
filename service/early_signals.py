"""SIGTERM while a process starts, before anything in it can be stopped.

The first process of a container gets no signal that it has no handler for: without one, a worker that is
stopped while it imports PyTorch would be killed only when its grace is over.
"""

import os
import signal


def exit_on_sigterm() -> None:
    """End this process at once on SIGTERM, until another handler takes its place. Nothing has begun yet.

    A SIGTERM that came since `hold_sigterm`, in this process or before it was replaced by exec, counts.
    """
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])


def hold_sigterm() -> None:
    """Keep a SIGTERM until `exit_on_sigterm` is called: exec drops the handlers, but not what is held."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
