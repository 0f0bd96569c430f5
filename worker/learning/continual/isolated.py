"""Temporary retention: each label gets its own small network, which is dropped to forget it exactly."""

from dataclasses import replace

from pydantic import Field

from worker.learning.checkpoint import Checkpoint
from worker.learning.consolidation import UnusedFisherExamples
from worker.learning.networks import blank
from worker.learning.networks.network import Width
from worker.learning.rehearsal import learn_from_images
from worker.learning.slots import LabelConflict, with_slots
from worker.learning.strategy import Examples, StrategyParams, TrainingContext, strategy
from worker.learning.training import Schedule


class IsolatedParams(StrategyParams):
    schedule: Schedule = Schedule(steps=400, learning_rate=1e-2)
    encoder_widths: tuple[Width, ...] = Field(
        (256, 128), min_length=1, max_length=6, description="Units of the encoder's hidden layers."
    )
    decoder_widths: tuple[Width, ...] = Field(
        (128, 256), min_length=1, max_length=6, description="Units of the decoder's hidden layers."
    )
    fisher_examples: UnusedFisherExamples = 1_000


@strategy(
    "learn",
    "isolated",
    IsolatedParams,
    source="CLPU of Liu et al. 2022 (arXiv:2203.12817), with a new network instead of a copy of the main one",
    retention="temporary",
    default=True,
)
def learn(
    checkpoint: Checkpoint, examples: Examples, params: IsolatedParams, context: TrainingContext
) -> Checkpoint:
    """Learn temporary labels, each in its own small network, which is dropped to forget the label exactly.

    Minimises E over x of -ELBO(x | theta_c, c) for each label c separately, from random weights theta_c. The
    main network is neither read nor changed, so that an isolated network contains nothing of the labels that
    the main one learnt (docs/decisions/0005-isolated-networks.md). An isolated network has the architecture
    `mlp`, whatever that of the main network. Raises LabelConflict for a label that is learnt already.
    """
    learnt = sorted(set(examples.labels) & {*checkpoint.retained, *checkpoint.temporary})
    if learnt:
        raise LabelConflict(f"already learnt: {learnt}")
    spec = {
        "encoder_widths": params.encoder_widths,
        "decoder_widths": params.decoder_widths,
        "latent": checkpoint.spec.latent,
        "prior": checkpoint.spec.prior,
    }
    isolated = []
    for name in examples.labels:
        of_label = context.with_seed_for(name)
        start = blank(spec, seed=of_label.seed, pixels=checkpoint.spec.pixels)
        start = with_slots(start, [name], examples.dataset, "temporary")
        images = {name: examples.images[name]}
        isolated.append(learn_from_images(start, images, params.schedule, of_label))
    return replace(checkpoint, isolated=(*checkpoint.isolated, *isolated))
