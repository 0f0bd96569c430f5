"""Temporary retention: each label learns in a small network of its own, which can be dropped exactly."""

from dataclasses import replace

from pydantic import Field

from worker.learning.checkpoint import Checkpoint
from worker.learning.continual.replay_ewc import HoldingParams, taught
from worker.learning.networks import blank
from worker.learning.networks.network import Width
from worker.learning.slots import LabelConflict, with_slots
from worker.learning.strategy import Examples, StrategyParams, TrainingContext, strategy
from worker.learning.training import Schedule


class IsolatedParams(StrategyParams):
    schedule: Schedule = Schedule(steps=400, learning_rate=1e-2)
    encoder_widths: tuple[Width, ...] = Field(
        (256, 128), min_length=1, max_length=6, description="hidden units"
    )
    decoder_widths: tuple[Width, ...] = Field(
        (128, 256), min_length=1, max_length=6, description="hidden units"
    )
    fisher_examples: int = Field(1_000, ge=1, le=1_000_000, description="draws the Fisher is averaged over")


@strategy(
    "learn",
    "isolated",
    IsolatedParams,
    source="CLPU of Liu et al. 2022, with a fresh network instead of a copy of the head",
    retention="temporary",
    default=True,
)
def learn(
    checkpoint: Checkpoint, examples: Examples, params: IsolatedParams, context: TrainingContext
) -> Checkpoint:
    """Learn temporary labels, each in a small network of its own: forgetting one is dropping its network.

    Minimises E over (x, c) of -ELBO(x | theta_c, c), for each label c alone, from random weights theta_c. The
    main network is neither read nor changed: nothing of what it holds, or once held, is copied into a network
    that outlives it (docs/decisions/0005-isolated-networks.md). It is an `mlp`, whatever the main network is.
    Raises LabelConflict for a label that is
    learnt already, permanently or temporarily.
    """
    known = sorted(set(examples.labels) & {*checkpoint.held, *checkpoint.temporary})
    if known:
        raise LabelConflict(f"already learnt: {known}")
    plain = HoldingParams(schedule=params.schedule, ewc_strength=0, fisher_examples=params.fisher_examples)
    learnt = []
    for name in examples.labels:
        alone = context.with_seed_for(name)
        widths = {"encoder_widths": params.encoder_widths, "decoder_widths": params.decoder_widths}
        network = {**widths, "latent": checkpoint.spec.latent, "prior": checkpoint.spec.prior}
        start = blank(network, seed=alone.seed, pixels=checkpoint.spec.pixels)
        start = with_slots(start, [name], examples.dataset, "temporary")
        learnt.append(taught(start, {name: examples.images[name]}, [], plain, alone))
    return replace(checkpoint, isolated=(*checkpoint.isolated, *learnt))
