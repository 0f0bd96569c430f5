"""Measure the forgetting part of a full report: forgotten labels of the main network beside references."""

import base64
from collections.abc import Mapping, Sequence
from statistics import mean

from torch import Tensor

from reports import (
    Figure,
    ForgettingPart,
    FunctionDistance,
    LabelForgetting,
    Picture,
    Pictures,
    TwoSampleFigure,
    combine_verdicts,
)
from worker.learning.checkpoint import Checkpoint, Label
from worker.learning.judging.audit_measurements import AuditSetup, audit_network
from worker.learning.judging.classifiers import ClassifierUnavailable
from worker.learning.judging.comparison import (
    CONTROL_AUC_THRESHOLD,
    Comparison,
    compare,
    not_compared,
    summarise_verdicts,
)
from worker.learning.judging.estimates import Estimate, auc_interval, mean_over_seeds
from worker.learning.judging.evaluation import CPU, Evaluation
from worker.learning.judging.feature_network import FeatureNetwork
from worker.learning.judging.likeness import energy_distance, function_distance, permutation_p_value
from worker.learning.judging.recovery import Search
from worker.learning.judging.reference_networks import ReferenceNetworks
from worker.learning.judging.references import MEMORISED, measure_control_auc
from worker.learning.judging.relearning import RelearningSetup
from worker.learning.networks import frozen
from worker.learning.networks.network import Network
from worker.learning.resuming import State
from worker.learning.strategy import Unavailable

REPORTED_IMAGES = 16
"""How many recovered images of a network are in the report."""
LIKENESS_DRAWS = 500
"""Draws of each network for the energy distance."""


def measure_forgetting(evaluation: Evaluation, references: ReferenceNetworks) -> ForgettingPart:
    """Audit every forgotten label of the main network. Figures that cannot be compared have a reason."""
    labels = {one.name: _label_forgetting(one, evaluation, references) for one in evaluation.forgotten}
    return summarise_forgetting(
        labels, distance=_distance(evaluation, references), control=_control(evaluation)
    )


def summarise_forgetting(
    labels: Mapping[str, LabelForgetting], *, distance: FunctionDistance, control: Figure
) -> ForgettingPart:
    """Combine the labels: met if every label and the control are met, missed if one of them is missed.

    The control counts because an attack that fails on a network which memorised its images proves nothing.
    """
    missed = [f"{name}: {figure}" for name, one in labels.items() for figure in one.missed]
    if control.verdict == "missed":
        missed.append("control")
    verdict = combine_verdicts([*(one.verdict for one in labels.values()), control.verdict])
    return ForgettingPart(
        labels=dict(labels), distance=distance, control=control, verdict=verdict, missed=tuple(missed)
    )


def summarise_label(
    comparison: Comparison, two_sample: TwoSampleFigure, pictures: Pictures | None
) -> LabelForgetting:
    """Combine a label's figures with the verdict of all of them."""
    verdict, missed, unmeasured = summarise_verdicts(comparison.figures)
    return LabelForgetting(
        accuracy=comparison.accuracy,
        recovery=comparison.recovery,
        relearning=comparison.relearning,
        membership=comparison.membership,
        two_sample=two_sample,
        pictures=pictures,
        verdict=verdict,
        missed=missed,
        unmeasured=unmeasured,
    )


def _label_forgetting(label: Label, evaluation: Evaluation, references: ReferenceNetworks) -> LabelForgetting:
    try:
        setup = _audit_setup(label, evaluation)
    except Unavailable as error:
        return _not_audited(str(error))
    if not references.networks:
        return _not_audited(references.reason)
    context = evaluation.context.with_seed_for("audit")
    candidate, recovered = audit_network(evaluation.checkpoint, setup, evaluation.draw, context)
    others = [audit_network(one, setup, evaluation.draw, context) for one in references.networks]
    return summarise_label(
        compare(candidate, [measurements for measurements, _ in others]),
        _two_sample(label, setup.feature_network, evaluation, references.networks),
        Pictures(candidate=_picture(recovered), reference=_picture(others[0][1])),
    )


def _not_audited(reason: str) -> LabelForgetting:
    return summarise_label(not_compared(reason), TwoSampleFigure.unmeasured(reason), None)


def _audit_setup(label: Label, evaluation: Evaluation) -> AuditSetup:
    """Raises Unavailable."""
    judge, params = evaluation.judges(label.dataset), evaluation.params
    if label.source not in judge.labels:
        raise ClassifierUnavailable(
            f"the judge of {label.dataset!r} does not know the label {label.source!r}"
        )
    return AuditSetup(
        label=label,
        judge=judge,
        feature_network=evaluation.feature_networks(label.dataset),
        members=evaluation.train_images(label),
        others=evaluation.test_images(label),
        draws=params.draws,
        search=Search(starts=params.attacks, steps=params.attack_steps),
        relearning=RelearningSetup(schedule=params.relearning),
    )


def _two_sample(
    label: Label, feature_network: FeatureNetwork, evaluation: Evaluation, references: Sequence[Checkpoint]
) -> TwoSampleFigure:
    """How far apart the networks' draws of the label are. The figure has no threshold."""
    context, rng = evaluation.context, evaluation.context.generator("permutations")
    seed = context.with_seed_for("likeness").seed

    def measure() -> State:
        candidate, *others = (
            feature_network.embed(evaluation.draw(one, label.name, LIKENESS_DRAWS, seed))
            for one in (evaluation.checkpoint, *references)
        )
        estimate = mean_over_seeds([energy_distance(candidate, other) for other in others])
        figure = TwoSampleFigure(
            value=estimate.value,
            n=estimate.n,
            interval=estimate.interval,
            draws=LIKENESS_DRAWS,
            p=permutation_p_value(candidate, others[0], rng),
            between_references=energy_distance(others[0], others[1]),
        )
        return {"figure": figure.model_dump(mode="json")}

    found = context.once(f"two samples of {label.name}", measure)
    return TwoSampleFigure.model_validate(found["figure"])


def _distance(evaluation: Evaluation, references: ReferenceNetworks) -> FunctionDistance:
    """How differently the networks reconstruct images of the retained labels. The figure has no threshold."""
    if not references.networks:
        return FunctionDistance.unmeasured(references.reason)
    try:
        examples = [(evaluation.test_images(one).float() / 255, one.slot) for one in evaluation.retained]
    except Unavailable as error:
        return FunctionDistance.unmeasured(str(error))
    network, *others = (frozen(one, CPU) for one in (evaluation.checkpoint, *references.networks))

    def distance_between(one: Network, other: Network) -> float:
        def measure() -> State:
            return {"distance": function_distance(one, other, examples)}

        return float(evaluation.context.once("distance between functions", measure)["distance"])

    distances = [distance_between(network, other) for other in others]
    between_references = distance_between(others[0], others[1])
    estimate = mean_over_seeds([distance / between_references for distance in distances])
    return FunctionDistance(
        value=estimate.value,
        n=estimate.n,
        interval=estimate.interval,
        distance=mean(distances),
        between_references=between_references,
    )


def _control(evaluation: Evaluation) -> Figure:
    """The membership attack where it must succeed: on a network that memorised its members."""
    if not evaluation.forgotten:
        return Figure.unmeasured("nothing was forgotten")
    label = evaluation.forgotten[0]
    try:
        train, test = evaluation.train_images(label), evaluation.test_images(label)
    except Unavailable as error:
        return Figure.unmeasured(str(error), CONTROL_AUC_THRESHOLD)
    auc = measure_control_auc(evaluation.checkpoint, label.name, train, test, evaluation.context)
    return Estimate(auc, len(test), auc_interval(auc, MEMORISED, len(test))).figure(CONTROL_AUC_THRESHOLD)


def _picture(images: Tensor) -> Picture:
    """REPORTED_IMAGES of the images, uint8 [n, pixels], from every kind of start."""
    some = images[:: max(1, len(images) // REPORTED_IMAGES)][:REPORTED_IMAGES]
    return Picture(
        n=len(some), pixels=some.shape[1], base64=base64.b64encode(some.numpy().tobytes()).decode()
    )
