"""Selective Amnesia as published: noise for the forgotten labels, replay and EWC for the retained ones."""

from pydantic import Field
from torch import Tensor

from worker.learning.checkpoint import Checkpoint
from worker.learning.consolidation import FisherExamples, with_fisher_over, with_trained_weights
from worker.learning.elbo import negative_elbo
from worker.learning.fisher import EwcStrength, quadratic_penalty
from worker.learning.networks import build, frozen
from worker.learning.prior import reset_prior
from worker.learning.replay_losses import ReplayMatch, replay_loss
from worker.learning.sources import generative_replay, interleave
from worker.learning.strategy import Examples, StrategyParams, TrainingContext, strategy
from worker.learning.surrogates import picture_surrogate
from worker.learning.training import Parts, Schedule, fit


class SelectiveAmnesiaParams(StrategyParams):
    """The published values. Half of a batch is noise, the other half is replay."""

    schedule: Schedule = Schedule(
        steps=10_000, batch_size=512, learning_rate=1e-4, label_rate=1, shape="constant", gradient_norm=1e9
    )
    # Published as 100, for losses summed over 256 examples and a penalty without the 1/2: 2 * 100 / 256.
    ewc_strength: EwcStrength = 0.78
    replay_strength: float = Field(
        1.0, ge=0, le=100, description="Weight gamma of the loss on replayed draws of the retained labels."
    )
    replay_match: ReplayMatch = "elbo"
    fisher_examples: FisherExamples = 50_000


@strategy("forget", "selective_amnesia", SelectiveAmnesiaParams, source="Heng & Soh 2023 (arXiv:2305.10120)")
def forget(
    checkpoint: Checkpoint, examples: Examples, params: SelectiveAmnesiaParams, context: TrainingContext
) -> Checkpoint:
    """Forget labels by Selective Amnesia with its published values, at a fixed size: the paper's baseline.

    Minimises E over labels c to forget and x ~ U(0, 1) of -ELBO(x | theta, c), plus gamma times E over
    retained labels c and x ~ p(x | theta*, c) of the same, plus lambda/2 sum F (theta - theta*)^2 with F over
    all labels, including those to forget.
    """
    target = checkpoint.with_status(examples.labels, "forgotten")
    target = with_fisher_over(target, checkpoint.retained.values(), context, examples=params.fisher_examples)
    retained = sorted(target.retained.values())
    forgotten = sorted(target.forgotten[name] for name in examples.labels)
    network = build(target, context.device)
    teacher = frozen(target, context.device, precision=context.precision)
    for slot in forgotten:
        reset_prior(network, slot)  # the published network has N(0, I) for every label
    noise = context.generator("latent noise")
    penalty = quadratic_penalty(network, target.weights, target.fisher, params.ewc_strength)
    retained_loss = replay_loss(params.replay_match, network, teacher, noise)

    def loss(parts: Parts, progress: float) -> Tensor:
        surrogate, replayed = parts
        eps = network.noise(surrogate.slots, noise)
        bounds = negative_elbo(network, surrogate.images, surrogate.slots, eps)
        replay: Tensor = params.replay_strength * retained_loss(replayed, {}).mean()
        return bounds.mean() + replay + penalty()

    surrogate = context.generator("surrogate")
    sources = [
        (picture_surrogate("uniform_noise", forgotten, retained, teacher, surrogate), 1.0),
        (generative_replay(teacher, retained, context.generator("replay")), 1.0),
    ]
    batches = interleave(sources, params.schedule.batch_size, context.device)
    fit(network, loss, batches, params.schedule, context, phase="forgetting")
    return with_trained_weights(target, network)
