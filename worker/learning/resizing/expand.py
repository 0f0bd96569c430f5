"""Make a network larger without changing what it draws."""

from typing import Literal

from pydantic import Field

from worker.learning.checkpoint import Checkpoint
from worker.learning.memory import remembered
from worker.learning.resizing.units import grow, replicate
from worker.learning.strategy import Examples, StrategyParams, TrainingContext, strategy

Method = Literal["zero_outgoing", "net2net"]
METHODS = {"zero_outgoing": grow, "net2net": replicate}


class ExpandParams(StrategyParams):
    share: float = Field(0.1, gt=0, le=4, description="units added to every hidden layer")
    method: Method = Field(
        "zero_outgoing",
        description="fresh units that say nothing yet, or copies that share their unit's part",
    )
    fisher_examples: int = Field(10_000, ge=1, le=1_000_000, description="draws the Fisher is averaged over")


@strategy(
    "resize",
    "expand",
    ExpandParams,
    source="The paper, section 4.2.2; Chen et al. 2016 (Net2Net)",
    policy="expand",
    default=True,
)
def expand(
    checkpoint: Checkpoint, examples: Examples, params: ExpandParams, context: TrainingContext
) -> Checkpoint:
    """Add silent units or shared copies to every hidden layer: room for later learning, the same draws.

    Keeps f(x | theta', c) = f(x | theta, c), with W_in ~ N(0, 2 / fan-in) and W_out = 0 of a fresh unit, or
    with a unit's W_in in its copies and a W_out in each, the parts a unequal and summing to 1 (`net2net`).
    Raises TooWide.
    """
    larger = METHODS[params.method](checkpoint, params.share, context.generator("expansion"))
    held = sorted(larger.held.values())
    return remembered(larger, held, context, examples=params.fisher_examples)
