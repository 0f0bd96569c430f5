"""The checkpoints that the learning tests start from."""

import pytest

from tests.learning.tiny import (
    GIVEN,
    NETWORKS,
    OF_TEMPORARY,
    TINY,
    Start,
    examples,
    labels,
    run,
    skip_refused,
)
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
    """The same, with a temporary label."""
    return run("learn", "isolated", two_labels, examples("frame"))


@pytest.fixture(scope="session", params=sorted(NETWORKS))
def learnt(request: pytest.FixtureRequest) -> Checkpoint:
    """A network of every architecture in turn that has learnt rows and columns."""
    start = blank(NETWORKS[request.param], seed=0, pixels=64)
    return run("learn", "replay_ewc", start, examples("rows", "columns"))


@pytest.fixture(scope="session")
def learnt_with_frame(learnt: Checkpoint) -> Checkpoint:
    """The same, with a temporary label."""
    return run("learn", "isolated", learnt, examples("frame"))


@pytest.fixture
def start(operation: str, name: str, learnt: Checkpoint, learnt_with_frame: Checkpoint) -> Start:
    skip_refused(operation, name, learnt)
    if name in OF_TEMPORARY:
        return Start(learnt_with_frame, labels("frame"))
    return Start(learnt, GIVEN[operation])
