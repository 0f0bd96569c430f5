"""Learning with a hypernetwork: new labels are learnt while the weights made for all others stay."""

from typing import Annotated

from pydantic import Field
from torch import Tensor

from worker.learning.checkpoint import Checkpoint
from worker.learning.consolidation import with_trained_weights
from worker.learning.generated_weights import Retention, as_hypernetwork
from worker.learning.networks import build, frozen
from worker.learning.prior import fit_priors
from worker.learning.rehearsal import new_label_stream
from worker.learning.slots import with_new_labels
from worker.learning.strategy import Examples, StrategyParams, TrainingContext, strategy
from worker.learning.streams import mean_loss, mixed_batches
from worker.learning.training import Parts, Schedule, fit

RetentionStrength = Annotated[
    float,
    Field(
        ge=0,
        le=1e6,
        description="Strength beta of the penalty on changes of the weights that are made for other labels, "
        "in nats per example and squared unit of weight. 0 switches the penalty off.",
    ),
]


class HypernetworkParams(StrategyParams):
    schedule: Schedule = Schedule(steps=1000, learning_rate=1e-2)
    retention_strength: RetentionStrength = 0.2


@strategy(
    "learn",
    "hypernetwork",
    HypernetworkParams,
    source="von Oswald et al. 2020 (arXiv:1906.00695), equation 2; UnCLe (Adhikari et al. 2025, "
    "arXiv:2509.17530)",
    architectures=("hyper",),
)
def learn(
    checkpoint: Checkpoint, examples: Examples, params: HypernetworkParams, context: TrainingContext
) -> Checkpoint:
    """Learn new labels in a hypernetwork, and keep the weights that it makes for all other labels.

    Minimises E over new (x, c) of -ELBO(x | H(e_c)), plus beta times the mean over the other labels of
    |H(e_c) - H*(e_c)|^2: H(e_c) are all weights that the hypernetwork makes from the embedding e_c of a
    label, and H* is the hypernetwork before. The embeddings of the other labels do not change. Neither images
    nor draws of them are used. Labels that were forgotten earlier count among them, so that they do not come
    back. Raises NotForArchitecture if no hypernetwork makes the network's weights.
    """
    target = with_new_labels(checkpoint, examples.labels, examples.dataset)
    network = as_hypernetwork(build(target, context.device))
    before = as_hypernetwork(frozen(target, context.device))
    others = sorted({one.slot for one in target.labels if one.name not in examples.labels})
    retention = Retention(network, before, others)
    streams = [new_label_stream(examples.images, target, network, context)]

    def loss(parts: Parts, progress: float) -> Tensor:
        return mean_loss(streams, parts) + params.retention_strength * retention.loss()

    fit(
        network,
        loss,
        mixed_batches(streams, params.schedule.batch_size, context.device),
        params.schedule,
        context,
        phase="learning",
    )
    fit_priors(network, examples.images, target.retained, context)
    return with_trained_weights(target, network)
