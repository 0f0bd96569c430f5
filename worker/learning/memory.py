"""What a version remembers for its successors: the Fisher at its weights, over the labels it holds."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace

from torch import Tensor

from worker.learning.checkpoint import Checkpoint
from worker.learning.fisher import fisher_diagonal
from worker.learning.networks import frozen, weights_of
from worker.learning.networks.network import Network
from worker.learning.replay import replay, some
from worker.learning.strategy import Batch, TrainingContext

FISHER_EXAMPLES = 10_000


def consolidated(
    checkpoint: Checkpoint, network: Network, context: TrainingContext, *, examples: int = FISHER_EXAMPLES
) -> Checkpoint:
    """The checkpoint with the network's weights and the Fisher of the labels held, on its own draws.

    The draws are x ~ p(x | theta*, c), c uniform over the labels held (paper: section 2.2), as mean images.
    """
    held = checkpoint.held.values()
    return replace(
        checkpoint, weights=weights_of(network), fisher=fisher_of(network, held, context, examples, "fisher")
    )


def remembered(
    checkpoint: Checkpoint, slots: Collection[int], context: TrainingContext, *, examples: int
) -> Checkpoint:
    """The checkpoint with its Fisher taken over `slots` only: the memory of what must be retained."""
    network = frozen(checkpoint, context.device)
    return replace(checkpoint, fisher=fisher_of(network, slots, context, examples, "fisher of the anchor"))


def fisher_of(
    network: Network, slots: Collection[int], context: TrainingContext, examples: int, purpose: str
) -> dict[str, Tensor]:
    generator = context.generator(purpose)
    draws = some(replay(network, sorted(slots), generator), examples, context.device)
    return fisher_diagonal(network, _watched(draws, examples, context), generator)


def _watched(draws: Iterable[Batch], examples: int, context: TrainingContext) -> Iterator[Batch]:
    """The draws, each batch a step that shows progress and can be stopped at."""
    seen = 0
    for batch in draws:
        context.step("fisher", seen, examples)
        seen += len(batch.slots)
        yield batch
