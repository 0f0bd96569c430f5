"""Apply a strategy to a checkpoint: to its main network and to the isolated networks of temporary labels.

The cases are those of Continual Learning and Private Unlearning (CLPU; Liu et al. 2022, arXiv:2203.12817,
table 1).
"""

from collections.abc import Iterator
from dataclasses import replace

from pydantic import BaseModel

from worker.learning.checkpoint import Checkpoint
from worker.learning.isolation import drop_isolated
from worker.learning.networks import ARCHITECTURES, with_random_weights
from worker.learning.new_labels import learn_checked
from worker.learning.strategy import (
    Diverged,
    Examples,
    Strategy,
    TrainingContext,
    Unavailable,
    check_architecture,
)


def apply_strategy(
    checkpoint: Checkpoint, chosen: Strategy, examples: Examples, params: BaseModel, context: TrainingContext
) -> Checkpoint:
    """Run the strategy and return the new checkpoint, for temporary and permanent labels alike.

    A forget drops the isolated networks of temporary labels and runs the strategy for the permanent labels;
    if no permanent label is left, the main network starts again from random weights, with the widths that it
    had before its first label. An exact strategy also runs for labels that the main network has forgotten
    already, as another strategy may have done.
    When a temporary label is learnt permanently, its isolated network is dropped. Raises Diverged if a weight
    is not finite: the loss of the training does not show this if the last step caused it; NotForArchitecture
    if the strategy does not work on such networks.
    """
    context.resume(lambda: _inputs(checkpoint, chosen, examples, params))
    result = _result(checkpoint, chosen, examples, params, context)
    for one in (result, *result.isolated):
        _check_finite(one)
    return result


def _inputs(
    checkpoint: Checkpoint, chosen: Strategy, examples: Examples, params: BaseModel
) -> Iterator[object]:
    """Yield all that the result depends on, besides the code and the seeds of the context."""
    yield (chosen.operation, chosen.name, params.model_dump_json(), examples.labels, examples.dataset)
    # Of another package, another version may take other steps: it must not go on from this one's snapshot.
    for package in (chosen.package, ARCHITECTURES[checkpoint.spec.architecture].package):
        if package is not None:
            yield (package.name, package.version)
    yield from (one.to_bytes() for one in (checkpoint, *checkpoint.isolated))
    for name, images in examples.images.items():
        yield name
        yield images.numpy().tobytes()


def _result(
    checkpoint: Checkpoint, chosen: Strategy, examples: Examples, params: BaseModel, context: TrainingContext
) -> Checkpoint:
    check_architecture(chosen, checkpoint)
    if chosen.operation == "forget":
        return _forget(checkpoint, chosen, examples, params, context)
    if chosen.operation == "resize" or chosen.retention == "temporary":
        return chosen.run(checkpoint, examples, params, context)

    def learn(of_attempt: TrainingContext) -> Checkpoint:
        return chosen.run(checkpoint, examples, params, of_attempt)

    result = learn_checked(learn, checkpoint, examples.images, context)
    promoted = sorted(set(examples.labels) & set(checkpoint.temporary))
    if promoted:
        context.findings["promoted"] = promoted
    return result.without_isolated(promoted)


def _forget(
    checkpoint: Checkpoint, chosen: Strategy, examples: Examples, params: BaseModel, context: TrainingContext
) -> Checkpoint:
    temporary = tuple(name for name in examples.labels if name in checkpoint.temporary)
    permanent = tuple(name for name in examples.labels if name in checkpoint.retained)
    if temporary:
        checkpoint = drop_isolated(checkpoint, temporary, context)
    if not permanent and not _runs_again(chosen):
        return checkpoint
    # For permanent and temporary labels together, only the guarantee for the permanent ones counts.
    context.outcome.guarantee = "approximate"
    target = checkpoint.with_status(permanent, "forgotten")
    if target.retained:
        return chosen.run(checkpoint, replace(examples, labels=permanent), params, context)
    context.outcome.guarantee = "exact"
    start = _with_widths_from_before(target, context)
    return with_random_weights(start, context.with_seed_from(None).generator("weights"))


def _with_widths_from_before(checkpoint: Checkpoint, context: TrainingContext) -> Checkpoint:
    """Return the checkpoint, whose weights are to be replaced, with the widths from before its first label.

    The present ones followed the labels that are gone (docs/decisions/0149). They are kept if nobody knows
    those from before.
    """
    names = {label.name for label in checkpoint.labels}
    try:
        before = context.archive.widths_without(names)
    except Unavailable:
        return checkpoint
    encoder, decoder = tuple(before["encoder"]), tuple(before["decoder"])
    spec = replace(checkpoint.spec, encoder_widths=encoder, decoder_widths=decoder)
    return replace(checkpoint, spec=spec)


def _runs_again(chosen: Strategy) -> bool:
    """Whether the strategy makes new weights for the main network, whatever it has forgotten already."""
    return chosen.guarantee == "exact" and chosen.retention == "permanent"


def _check_finite(checkpoint: Checkpoint) -> None:
    for name, tensor in checkpoint.weights.items():
        if not tensor.isfinite().all():
            raise Diverged(
                f"the weights of {name} have values that are not finite after training; "
                f"lower the learning rate"
            )
