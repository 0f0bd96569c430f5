"""What a version remembers for its successors: the Fisher at its weights, over the labels it holds."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace

from torch import Tensor

from worker.learning.checkpoint import Checkpoint
from worker.learning.fisher import fisher_diagonal
from worker.learning.networks import frozen, weights_of
from worker.learning.networks.network import Network
from worker.learning.replay import replay, some
from worker.learning.strategy import Batch, Workbench

FISHER_EXAMPLES = 10_000


def consolidated(
    checkpoint: Checkpoint, network: Network, bench: Workbench, *, examples: int = FISHER_EXAMPLES
) -> Checkpoint:
    """The checkpoint with the network's weights and the Fisher of the labels held, on its own draws.

    The draws are x ~ p(x | theta*, c), c uniform over the labels held (paper: section 2.2), as mean images.
    """
    held = checkpoint.held.values()
    return replace(
        checkpoint, weights=weights_of(network), fisher=fisher_of(network, held, bench, examples, "fisher")
    )


def remembered(
    checkpoint: Checkpoint, slots: Collection[int], bench: Workbench, *, examples: int
) -> Checkpoint:
    """The checkpoint with its Fisher taken over `slots` only: the memory of what must be retained."""
    network = frozen(checkpoint, bench.device)
    return replace(checkpoint, fisher=fisher_of(network, slots, bench, examples, "fisher of the anchor"))


def fisher_of(
    network: Network, slots: Collection[int], bench: Workbench, examples: int, purpose: str
) -> dict[str, Tensor]:
    generator = bench.generator(purpose)
    draws = some(replay(network, sorted(slots), generator), examples, bench.device)
    return fisher_diagonal(network, _watched(draws, examples, bench), generator)


def _watched(draws: Iterable[Batch], examples: int, bench: Workbench) -> Iterator[Batch]:
    """The draws, each batch a step that shows progress and can be stopped at."""
    seen = 0
    for batch in draws:
        bench.step("fisher", seen, examples)
        seen += len(batch.slots)
        yield batch
