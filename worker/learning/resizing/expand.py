"""Make a network larger without changing what it draws."""

from typing import Literal

from pydantic import Field

from worker.learning.checkpoint import Checkpoint
from worker.learning.consolidation import UnusedFisherExamples
from worker.learning.strategy import Examples, StrategyParams, TrainingContext, strategy
from worker.learning.units.resize import grow, replicate

Method = Literal["zero_outgoing", "net2net"]
METHODS = {"zero_outgoing": grow, "net2net": replicate}


class ExpandParams(StrategyParams):
    share: float = Field(
        0.1, gt=0, le=4, description="Units to add to every hidden layer, as a share of its width."
    )
    method: Method = Field(
        "zero_outgoing",
        description="How units are added. `zero_outgoing`: with random incoming and zero outgoing weights. "
        "`net2net`: as copies of units, which share the outgoing weights of their original.",
    )
    fisher_examples: UnusedFisherExamples = 10_000


@strategy(
    "resize",
    "expand",
    ExpandParams,
    source="The paper, section 4.2.2; Chen et al. 2016 (Net2Net, arXiv:1511.05641)",
    policy="expand",
    default=True,
)
def expand(
    checkpoint: Checkpoint, examples: Examples, params: ExpandParams, context: TrainingContext
) -> Checkpoint:
    """Add units to every hidden layer without changing what the network draws, as room for later learning.

    The network with the new parameters theta' computes the same function as with theta. With `zero_outgoing`,
    a new unit has incoming weights W_in ~ N(0, 2 / fan-in) and outgoing weights W_out = 0. With `net2net`, a
    copy has the W_in of its original, and the W_out of the original is split between the two in unequal parts
    that sum to 1. Raises TooWide if a layer would exceed its maximum width.
    """
    return METHODS[params.method](checkpoint, params.share, context.generator("expansion"))
