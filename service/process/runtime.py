"""Settings of Python and of the C library for a process whose many threads answer requests."""

import ctypes
import gc
import sys
from contextlib import suppress

SWITCH_SECONDS = 0.0005
"""How long a thread that computes keeps the others waiting. The event loop waits for its turn after every
system call: with Python's default, 5 ms, each answer took 10 ms while another thread was busy."""
YOUNG_OBJECTS = 10_000
"""How many new objects there may be before Python looks for cycles among them, in place of 700."""
HEAPS = 2
"""How many heaps the threads share. By default glibc makes up to eight for each core, and no thread uses what
another has freed in its own heap: the server grew by 5 % over a hundred jobs."""
M_ARENA_MAX = -8  # of glibc's malloc.h


def share_heaps() -> None:
    """Let all threads of this process allocate from a few heaps. To be called before it starts threads."""
    with suppress(OSError, AttributeError):  # another C library than glibc, which has no such limit
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, HEAPS)


def shorten_pauses() -> None:
    """Let no thread keep the requests waiting for long, nor the search for garbage.

    What is there once the server has started stays until it ends. A full collection went through all of that
    each time, and stopped every thread for 0.1 to 0.3 s.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])
    gc.freeze()  # without a collection before it: there is next to no garbage yet, and it takes 0.1 s
