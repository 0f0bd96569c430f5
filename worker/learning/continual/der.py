"""Dark experience replay (DER++) for a VAE: match the old network's outputs, and train on its draws."""

import torch
from pydantic import Field
from torch import Tensor

from worker.learning.checkpoint import Checkpoint
from worker.learning.consolidation import UnusedFisherExamples, with_trained_weights
from worker.learning.elbo import negative_elbo
from worker.learning.networks import build, frozen
from worker.learning.networks.network import Masks, Network
from worker.learning.prior import fit_priors
from worker.learning.rehearsal import new_label_stream
from worker.learning.replay_losses import latents_of
from worker.learning.slots import with_new_labels
from worker.learning.strategy import Batch, Examples, StrategyParams, TrainingContext, strategy
from worker.learning.streams import mean_loss, mixed_batches, replay_streams
from worker.learning.training import LEARN_SCHEDULE, Parts, Schedule, fit


class DerParams(StrategyParams):
    schedule: Schedule = LEARN_SCHEDULE
    dark_strength: float = Field(
        0.5,
        ge=0,
        le=100,
        description="Weight alpha of the squared errors to the images and posteriors of the old network.",
    )
    replay_strength: float = Field(1.0, ge=0, le=100, description="Weight beta of -ELBO on replayed draws.")
    fisher_examples: UnusedFisherExamples = 10_000


@strategy(
    "learn",
    "der",
    DerParams,
    source="DER++ of Buzzega et al. 2020 (arXiv:2004.07211), as in Liu et al. 2022 (CLPU)",
)
def learn(
    checkpoint: Checkpoint, examples: Examples, params: DerParams, context: TrainingContext
) -> Checkpoint:
    """Learn new labels by dark experience replay: match the old network's images and posteriors on its draws.

    Minimises E over new (x, c) of -ELBO(x | theta, c), plus, over the old network's draws (z, x, c) of the
    labels it retains, alpha (|x(z, c) - x|^2 + |mu(x, c) - mu_t|^2 + |logvar(x, c) - logvar_t|^2) minus
    beta ELBO(x | theta, c). x(z, c) is the mean image, mu and logvar are the outputs of the encoder, and t
    marks those of the old network. All labels have equal shares. The draws come from a pool that is
    made once, at the start (docs/decisions/0160), and not from a reservoir buffer. Labels forgotten
    earlier are trained to draw what they draw now.
    """
    old = sorted(checkpoint.retained.values())
    target = with_new_labels(checkpoint, examples.labels, examples.dataset)
    network = build(target, context.device)
    teacher = frozen(target, context.device, precision=context.precision)
    noise = context.generator("latent noise")

    def old_loss(batch: Batch, masks: Masks) -> Tensor:
        squared_errors, bound = squared_errors_and_negative_elbo(
            network, teacher, batch, network.noise(batch.slots, noise)
        )
        return params.dark_strength * squared_errors + params.replay_strength * bound

    streams = [
        new_label_stream(examples.images, target, network, context),
        *replay_streams(
            network,
            teacher,
            old,
            sorted(target.forgotten.values()),
            old_loss,
            context,
            draws=params.schedule.examples,
        ),
    ]

    def loss(parts: Parts, progress: float) -> Tensor:
        return mean_loss(streams, parts)

    batches = mixed_batches(streams, params.schedule.batch_size, context.device)
    fit(network, loss, batches, params.schedule, context, phase="learning")
    fit_priors(network, examples.images, target.retained, context)
    return with_trained_weights(target, network)


def squared_errors_and_negative_elbo(
    network: Network, teacher: Network, batch: Batch, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute the squared errors to the teacher's outputs, and -ELBO, of replayed (z, x, c); each [batch]."""
    with torch.no_grad():
        target = torch.cat(batch.posterior or teacher.encode(batch.images, batch.slots), dim=1)
    posterior = torch.cat(network.encode(batch.images, batch.slots), dim=1)
    drawn = network.decode(latents_of(batch), batch.slots).sigmoid()
    squared_errors = (drawn - batch.images).square().sum(dim=1) + (posterior - target).square().sum(dim=1)
    return squared_errors, negative_elbo(network, batch.images, batch.slots, noise)
