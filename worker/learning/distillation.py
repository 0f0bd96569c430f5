"""Distillation: train a student network to match its teacher, on images that the teacher draws."""

from collections.abc import Callable, Collection
from dataclasses import replace

from torch import Tensor

from worker.learning.checkpoint import Checkpoint
from worker.learning.consolidation import with_trained_weights
from worker.learning.networks import build, frozen
from worker.learning.networks.network import Network
from worker.learning.replay_losses import distillation_loss, replay_loss
from worker.learning.sources import generative_replay, interleave
from worker.learning.strategy import TrainingContext
from worker.learning.streams import mean_loss, mixed_batches, replay_streams
from worker.learning.training import Parts, Schedule, fit


def train_student(
    teacher: Network,
    start: Checkpoint,
    schedule: Schedule,
    context: TrainingContext,
    *,
    phase: str,
    purpose: str,
) -> Network:
    """Train a student, which starts as `start`, to match the teacher on the labels that `start` retains.

    Minimises `distillation_loss`. The priors of these labels are copied from the teacher; other slots stay as
    in `start`. phase: the name under which progress is reported. purpose: names the random stream.
    """
    slots = sorted(start.retained.values())
    student = build(start, context.device)
    student.copy_priors(teacher, slots)

    def loss(parts: Parts, progress: float) -> Tensor:
        (replayed,) = parts
        return distillation_loss(student, teacher, replayed).mean()

    source = generative_replay(teacher, slots, context.generator(purpose))
    batches = interleave([(source, 1.0)], schedule.batch_size, context.device)
    fit(student, loss, batches, schedule, context, phase=phase)
    return student


def match_function(
    checkpoint: Checkpoint,
    smaller: Checkpoint,
    schedule: Schedule,
    context: TrainingContext,
    *,
    keep_fixed: Callable[[Network], Callable[[], None]] = lambda network: lambda: None,
) -> Checkpoint:
    """Train `smaller`, a pruned copy of the checkpoint, to match the checkpoint's network again.

    For retained labels it matches the decoder and the posterior, for forgotten labels the decoder only.
    keep_fixed: given the network, returns what to do after every step, such as restoring weights that must
    not change. Returns it with its new weights.
    """
    network = build(smaller, context.device)
    teacher = frozen(checkpoint, context.device, precision=context.precision)
    retained_loss = replay_loss("function", network, teacher, context.generator("latent noise"))
    retained, forgotten = sorted(checkpoint.retained.values()), sorted(checkpoint.forgotten.values())
    streams = replay_streams(
        network, teacher, retained, forgotten, retained_loss, context, draws=schedule.examples
    )

    def loss(parts: Parts, progress: float) -> Tensor:
        return mean_loss(streams, parts)

    batches = mixed_batches(streams, schedule.batch_size, context.device)
    fit(
        network,
        loss,
        batches,
        schedule,
        context,
        phase="matching the old function",
        after_step=keep_fixed(network),
    )
    return with_trained_weights(smaller, network)


def match_others(
    checkpoint: Checkpoint,
    names: Collection[str],
    smaller: Checkpoint,
    schedule: Schedule,
    context: TrainingContext,
    *,
    keep_fixed: Callable[[Network], Callable[[], None]] = lambda network: lambda: None,
) -> Checkpoint:
    """Train `smaller` to match the checkpoint's network on all labels but `names`: see `match_function`.

    Nothing is asked of the network for `names`, neither to draw nor not to draw them.
    """
    others = tuple(one for one in checkpoint.labels if one.name not in names)
    return match_function(
        replace(checkpoint, labels=others), smaller, schedule, context, keep_fixed=keep_fixed
    )
