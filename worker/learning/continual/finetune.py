"""The control that forgets: train on the new labels alone."""

from pydantic import Field
from torch import Tensor

from worker.learning.checkpoint import Checkpoint
from worker.learning.elbo import negative_elbo
from worker.learning.memory import consolidated
from worker.learning.networks import build
from worker.learning.prior import fit_priors
from worker.learning.replay import interleave, real
from worker.learning.slots import with_slots
from worker.learning.strategy import Examples, StrategyParams, Workbench, strategy
from worker.learning.training import Parts, Schedule, fit


class FinetuneParams(StrategyParams):
    schedule: Schedule = Schedule(steps=1200, learning_rate=4e-3)
    fisher_examples: int = Field(10_000, ge=1, le=1_000_000, description="draws the Fisher is averaged over")


@strategy("learn", "finetune", FinetuneParams, source="The control of McCloskey & Cohen 1989")
def learn(checkpoint: Checkpoint, examples: Examples, params: FinetuneParams, bench: Workbench) -> Checkpoint:
    """Learn new labels from their images alone, with nothing to hold the old ones: the control that forgets.

    Minimises E over new (x, c) of -ELBO(x | theta, c). What every other strategy must beat on the old labels.
    """
    target = with_slots(checkpoint, examples.labels, examples.dataset, "permanent")
    network = build(target, bench.device)
    noise = bench.generator("latent noise")

    def loss(parts: Parts, done: float) -> Tensor:
        (new,) = parts
        return negative_elbo(network, new.images, new.slots, network.noise(new.slots, noise)).mean()

    source = real(examples.images, target.held, bench.generator("examples"))
    batches = interleave([(source, 1.0)], params.schedule.batch_size, bench.device)
    fit(network, loss, batches, params.schedule, bench, phase="learning")
    fit_priors(network, examples.images, target.held, bench)
    return consolidated(target, network, bench, examples=params.fisher_examples)
