"""Selective Amnesia as published, the fixed-size baseline: noise for the label, replay + EWC for the rest."""

from pydantic import Field
from torch import Tensor

from worker.learning.checkpoint import Checkpoint
from worker.learning.elbo import negative_elbo
from worker.learning.fisher import quadratic_penalty
from worker.learning.memory import consolidated, remembered
from worker.learning.networks import build, frozen
from worker.learning.prior import reset_prior
from worker.learning.replay import interleave, replay
from worker.learning.retention import Match, replay_loss
from worker.learning.strategy import Examples, StrategyParams, TrainingContext, strategy
from worker.learning.training import Parts, Schedule, fit
from worker.learning.unlearning.surrogate import surrogate_of


class SelectiveAmnesiaParams(StrategyParams):
    """The published values. Half of a batch is noise, half of it replay."""

    schedule: Schedule = Schedule(
        steps=10_000, batch_size=512, learning_rate=1e-4, label_rate=1, shape="constant", gradient_norm=1e9
    )
    # Published as 100, beside sums over 256 examples and without the 1/2: 2 * 100 / 256.
    ewc_strength: float = Field(0.78, ge=0, le=1e6, description="lambda of the EWC penalty, per example")
    replay_strength: float = Field(1.0, ge=0, le=100, description="gamma, of the loss on replayed draws")
    replay_match: Match = Field("elbo", description="what replay holds: the function, or the paper's ELBO")
    fisher_examples: int = Field(50_000, ge=1, le=1_000_000, description="draws the Fisher is averaged over")


@strategy("forget", "selective_amnesia", SelectiveAmnesiaParams, source="Heng & Soh 2023")
def forget(
    checkpoint: Checkpoint, examples: Examples, params: SelectiveAmnesiaParams, context: TrainingContext
) -> Checkpoint:
    """Forget labels by Selective Amnesia with its published values, at a fixed size: the paper's baseline.

    Minimises E over c in U, x ~ U(0, 1) of -ELBO(x | theta, c), plus gamma times the same over c in K,
    x ~ p(x | theta*, c), plus lambda/2 sum F (theta - theta*)^2 with F over all labels, U and K.
    """
    target = checkpoint.with_status(examples.labels, "forgotten")
    target = remembered(target, checkpoint.held.values(), context, examples=params.fisher_examples)
    kept = sorted(target.held.values())
    gone = sorted(target.forgotten[name] for name in examples.labels)
    network, teacher = build(target, context.device), frozen(target, context.device)
    for slot in gone:
        reset_prior(network, slot)  # the published network has N(0, I) for every label
    noise = context.generator("latent noise")
    penalty = quadratic_penalty(network, target.weights, target.fisher, params.ewc_strength)
    retain = replay_loss(params.replay_match, network, teacher, noise)

    def loss(parts: Parts, done: float) -> Tensor:
        surrogate, replayed = parts
        eps = network.noise(surrogate.slots, noise)
        bounds = negative_elbo(network, surrogate.images, surrogate.slots, eps)
        held: Tensor = params.replay_strength * retain(replayed, {}).mean()
        return bounds.mean() + held + penalty()

    sources = [
        (surrogate_of("uniform_noise", gone, kept, teacher, context.generator("surrogate")), 1.0),
        (replay(teacher, kept, context.generator("replay")), 1.0),
    ]
    batches = interleave(sources, params.schedule.batch_size, context.device)
    fit(network, loss, batches, params.schedule, context, phase="forgetting")
    return consolidated(target, network, context, examples=params.fisher_examples)
