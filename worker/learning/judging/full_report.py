"""Measure the full report: the quick one, and quality, forgetting and capacity compared with references.

This takes a minute or more, much of it to train the references. A figure that cannot be measured, because
data or a judge is missing, has the reason instead of a value.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from reports import ClassifierSummary, FullReport, LayerCapacity, ReferencePart
from worker.learning.checkpoint import Checkpoint
from worker.learning.judging.evaluation import Evaluation, FeatureNetworks, FullParams
from worker.learning.judging.forgetting_part import measure_forgetting
from worker.learning.judging.quality_part import measure_quality_by_dataset
from worker.learning.judging.quick_report import Draw, Judges, measure_quick_report
from worker.learning.judging.reference_networks import ReferenceNetworks, retrain_references
from worker.learning.judging.withheld_verdicts import withhold_verdicts
from worker.learning.networks import frozen
from worker.learning.resuming import State
from worker.learning.strategy import TrainingContext, Unavailable
from worker.learning.units.capacity import measure_capacity
from worker.learning.units.removal import measure_curvature, replay_sample


def measure_full_report(
    checkpoint: Checkpoint,
    judges: Judges,
    feature_networks: FeatureNetworks,
    context: TrainingContext,
    params: FullParams,
    *,
    draw: Draw,
) -> FullReport:
    """Measure quality, forgetting and capacity, compared with references that never saw the forgotten labels.

    Deterministic for equal arguments. What an earlier attempt saved in the context's snapshots is not
    measured again. Raises Stopped.

    Draws of temporary labels are judged, but the labels are not audited when forgotten: each had a network of
    its own, and dropping that forgets exactly.
    """
    context.resume(lambda: _inputs(checkpoint, params))
    quick = measure_quick_report(
        checkpoint,
        judges,
        n=params.draws,
        seed=context.seed,
        draw=draw,
        held_out=context.archive.held_out,
        train_images=context.archive.images,
        context=context,
    )
    main_network = replace(checkpoint, isolated=())
    evaluation = Evaluation(main_network, judges, feature_networks, context, params, draw)
    references = retrain_references(evaluation)
    return FullReport(
        n=quick.n,
        seed=quick.seed,
        judge=quick.judge,
        retained=quick.retained,
        forgotten=quick.forgotten,
        quality=measure_quality_by_dataset(evaluation, references),
        forgetting=withhold_verdicts(measure_forgetting(evaluation, references), _reasons(evaluation)),
        feature_network={name: _feature_network_summary(name, feature_networks) for name in quick.judge},
        capacity=quick.capacity.model_copy(update={"layers": _layers(evaluation)}),
        reference=_reference_part(references, params, checkpoint),
    )


def _inputs(checkpoint: Checkpoint, params: FullParams) -> Iterator[object]:
    """Yield all that the report depends on, besides the code, the seeds and the images of the labels."""
    yield params.model_dump_json()
    yield from (one.to_bytes() for one in (checkpoint, *checkpoint.isolated))


def _reasons(evaluation: Evaluation) -> dict[str, str]:
    """Forgotten label -> why no verdict by its judge counts, of those for which there is such a reason."""
    reasons = {}
    for label in evaluation.forgotten:
        try:
            reasons[label.name] = evaluation.judges(label.dataset).why_no_verdict
        except Unavailable:  # the figures say so themselves
            continue
    return {name: reason for name, reason in reasons.items() if reason is not None}


def _feature_network_summary(dataset: str, feature_networks: FeatureNetworks) -> ClassifierSummary:
    try:
        found = feature_networks(dataset)
    except Unavailable as error:
        return ClassifierSummary(version=None, test_accuracy=None, reason=str(error))
    return ClassifierSummary(version=found.version, test_accuracy=found.test_accuracy)


def _layers(evaluation: Evaluation) -> Mapping[str, LayerCapacity]:
    """The capacity of each hidden layer of the main network."""
    checkpoint, context = evaluation.checkpoint, evaluation.context
    if not checkpoint.retained:
        return {}
    network = frozen(checkpoint, context.device)

    def measure() -> State:
        draws = replay_sample(checkpoint, evaluation.params.capacity_examples, context)
        signals = measure_capacity(network, draws, measure_curvature(network, draws, context))
        return {
            name: {
                "units": units,
                "dead_units": signals.idle_units[name],
                "effective_rank": signals.effective_rank[name],
            }
            for name, units in signals.widths.items()
        }

    found = context.once("capacity", measure)
    return {name: LayerCapacity.model_validate(layer) for name, layer in found.items()}


def _reference_part(
    references: ReferenceNetworks, params: FullParams, checkpoint: Checkpoint
) -> ReferencePart:
    return ReferencePart(
        seeds=len(references.networks),
        accuracy=tuple(references.accuracies),
        schedule=params.reference.model_dump(),
        encoder_widths=tuple(checkpoint.spec.encoder_widths),
        decoder_widths=tuple(checkpoint.spec.decoder_widths),
        reason=references.reason or None,
    )
