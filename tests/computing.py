"""Tests that compute as a worker does, in the process of the tests."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def settings_given_back() -> Iterator[None]:
    """Undo what `compute_reproducibly` sets in this process: other tests need numbers that are denormal."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_flush_denormal(False)
        torch.set_num_threads(threads)
