"""Forgetting in a hypernetwork: it makes noise for a label, and the same as before for all others."""

import itertools
from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from worker.learning.checkpoint import Checkpoint
from worker.learning.consolidation import with_trained_weights
from worker.learning.generated_weights import Retention, as_hypernetwork, noise_loss
from worker.learning.networks import build, frozen
from worker.learning.networks.hyper import Embeddings, Hyper
from worker.learning.prior import reset_prior
from worker.learning.strategy import Examples, StrategyParams, TrainingContext, strategy
from worker.learning.training import Parts, Schedule, fit


class NoiseAlignmentParams(StrategyParams):
    schedule: Schedule = Schedule(steps=200, learning_rate=4e-3)
    noise_strength: float = Field(
        1.0,
        ge=0,
        le=1e6,
        description="Weight gamma of the distance between noise and the weights that are made for the labels "
        "to forget.",
    )
    noise_draws: int = Field(
        10, ge=1, le=1000, description="Number n of draws of noise that each step averages over."
    )
    retention_strength: float = Field(
        10.0,
        ge=0,
        le=1e6,
        description="Weight beta of the change of the weights that are made for all other labels.",
    )


@strategy(
    "forget",
    "noise_alignment",
    NoiseAlignmentParams,
    source="UnCLe (Adhikari et al. 2025, arXiv:2509.17530)",
    architectures=("hyper",),
)
def forget(
    checkpoint: Checkpoint, examples: Examples, params: NoiseAlignmentParams, context: TrainingContext
) -> Checkpoint:
    """Forget labels by training the hypernetwork to make noise for them, without images or draws.

    Minimises, over the hypernetwork and with all embeddings fixed, gamma times the mean over labels c to
    forget of |H(e_c) - N|^2, plus beta times the mean over all other labels of |H(e_c) - H*(e_c)|^2: H(e_c)
    are the weights made from the embedding of a label, N is the mean of n draws of noise with the scale of a
    new network's weights, drawn anew in every step, and H* is the hypernetwork before. As the noise has the
    mean 0, the weights become small. The embeddings of the labels are not kept: new random ones take their
    place in the slots, and noise is made from the old and the new ones. The labels' priors become N(0, I).
    Raises NotForArchitecture if no hypernetwork makes the network's weights.
    """
    target = checkpoint.with_status(examples.labels, "forgotten")
    network = as_hypernetwork(build(target, context.device))
    before = as_hypernetwork(frozen(target, context.device))
    forgotten = [target.forgotten[name] for name in examples.labels]
    others = sorted({one.slot for one in target.labels} - set(forgotten))
    retained = sorted(target.retained.values())
    embeddings = replace_embeddings(network, forgotten, retained, context.generator("new embeddings"))
    for slot in forgotten:
        reset_prior(network, slot)
    retention, noise = Retention(network, before, others), context.generator("noise")

    def loss(parts: Parts, progress: float) -> Tensor:
        aligned = params.noise_strength * noise_loss(network, embeddings, params.noise_draws, noise)
        return aligned + params.retention_strength * retention.loss()

    fit(
        network,
        loss,
        itertools.repeat([]),
        params.schedule,
        context,
        phase="forgetting",
    )
    return with_trained_weights(target, network)


@torch.no_grad()
def replace_embeddings(
    network: Hyper, slots: Sequence[int], retained: Sequence[int], generator: torch.Generator
) -> Embeddings:
    """Replace the embeddings of these slots, in place, by new random ones; return the old and the new ones.

    The new ones are as long as those of the `retained` slots are on average, so that they are within their
    range and depend on nothing of the labels to forget. If no slot is retained, they are 0.
    """
    rows = torch.tensor(slots, device=network.prior_mean.device)
    old = network.embeddings(rows)
    for table in network.embedding_tables().values():
        drawn = torch.randn((len(slots), table.shape[1]), generator=generator).to(table.device)
        kept = table[list(retained)]
        table[rows] = drawn * (kept.square().sum() / max(1, kept.numel())).sqrt()
    new = network.embeddings(rows)
    return {side: torch.cat([old[side], new[side]]) for side in old}
