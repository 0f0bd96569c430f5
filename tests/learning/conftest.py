"""Checkpoints the learning tests start from."""

import pytest

from tests.learning.tiny import TINY, examples, run
from worker.learning.checkpoint import Checkpoint
from worker.learning.networks import blank


@pytest.fixture(scope="session")
def empty() -> Checkpoint:
    return blank(TINY, seed=0, pixels=64)


@pytest.fixture(scope="session")
def two_labels(empty: Checkpoint) -> Checkpoint:
    """A checkpoint that has learnt rows and columns."""
    return run("learn", "replay_ewc", empty, examples("rows", "columns"))


@pytest.fixture(scope="session")
def with_frame(two_labels: Checkpoint) -> Checkpoint:
    """The same with a temporary label beside them."""
    return run("learn", "isolated", two_labels, examples("frame"))
