"""The threads of a server share few heaps of the C library."""

import subprocess
import sys

import pytest

THREADS_THAT_ALLOCATE = """
import ctypes, sys
from threading import Barrier, Thread
from service.process import runtime

if sys.argv[1] == "shared":
    runtime.share_heaps()
everybody = Barrier(8)

def allocate():
    kept = [bytes(1000) for _ in range(1000)]  # larger than what Python keeps in memory of its own
    everybody.wait()

threads = [Thread(target=allocate) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
library = ctypes.CDLL(None)
library.malloc_info(0, ctypes.c_void_p.in_dll(library, "stdout"))
library.fflush(None)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc has several heaps")
def test_the_threads_share_two_heaps() -> None:
    assert count_heaps("shared") <= 2 < count_heaps("by default")


def count_heaps(how: str) -> int:
    """Return how many heaps a process has after eight threads have allocated at once."""
    command = [sys.executable, "-c", THREADS_THAT_ALLOCATE, how]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.count("<heap nr=")
