"""The report of a version: `Report` is measured by every job, `FullReport` by evaluate jobs."""

from typing import Any, Literal

from pydantic import Field

from reports.figures import (
    ComparedFigure,
    Criterion,
    Figure,
    FunctionDistance,
    LabelGroup,
    MembershipFigure,
    RecoveryFigure,
    ReferenceFigure,
    RelearningFigure,
    TwoSampleFigure,
)
from reports.thresholds import Verdict
from reports.values import Value

FORMAT = 2
"""Format of the reports that this release writes. Reports of release 0.1.0 have no number and count as 1."""

Level = Literal["quick", "full"]
Guarantee = Literal["exact", "approximate"]


class ClassifierSummary(Value):
    """Which classifier measured a dataset's images, and how good it is.

    If there is no classifier, `version` and `test_accuracy` are null and `reason` says why.
    """

    version: str | None = Field(description="sha256 of its weights")
    test_accuracy: float | None = Field(description="on real test images of the dataset")
    reason: str | None = Field(None, description="why there is no classifier")


class JudgeSummary(ClassifierSummary):
    """Which judge measured a dataset's images, and how good it is."""

    missed: tuple[str, ...] = Field(
        (),
        description="names of the judge's own quality figures that miss their threshold; if there are some, "
        "figures that the judge measured have no verdict",
    )


class LayerCapacity(Value):
    """How much of a hidden layer is in use."""

    units: int
    dead_units: int = Field(description="units whose removal changes no draw")
    effective_rank: float = Field(description="number of directions in which the layer's outputs vary")


class Capacity(Value):
    """The size of the networks, and how much of the main one is in use."""

    parameters: int = Field(description="of the main network")
    isolated_parameters: dict[str, int] = Field(description="of each temporary label's own network")
    encoder_widths: tuple[int, ...]
    decoder_widths: tuple[int, ...]
    layers: dict[str, LayerCapacity] = Field({}, description="by hidden layer; only measured in full reports")


class ExampleCounts(Value):
    """How many real images of each label the job learned from."""

    dataset: str
    labels: dict[str, int]


class Report(Value):
    """What was measured of a version before it was published, with thresholds and verdicts."""

    format: Literal[2] = 2
    level: Level = "quick"
    n: int = Field(description="draws of each label")
    seed: int = Field(description="seed of the draws")
    judge: dict[str, JudgeSummary] = Field(description="by dataset")
    retained: LabelGroup = Field(description="the labels that the version can draw")
    forgotten: LabelGroup = Field(
        description="the forgotten labels whose place in a network the version still has"
    )
    capacity: Capacity
    criteria: tuple[Criterion, ...] = Field(
        (), description="the acceptance criteria of its job, each with the value measured"
    )
    examples: ExampleCounts | None = Field(None, description="null in the report of an evaluate job")
    guarantee: Guarantee | None = Field(
        None,
        description="exact: the forgotten labels have no part in the weights, because of how they were made; "
        "null for a job that forgot nothing",
    )
    findings: dict[str, Any] = Field(
        {},
        description="decisions of the strategy, such as values it chose; the keys depend on the strategy. "
        "`learned_again` of a learn: a new label came out much worse than the others, so the job learned "
        "again with another seed and kept the better attempt. `dataset_files` of a learn: the files of its "
        "dataset are not those that were published under that name",
    )

    @property
    def relapsed(self) -> list[str]:
        """The forgotten labels that are drawn more often than their limit allows."""
        return [name for name, figure in self.forgotten.labels.items() if figure.verdict == "missed"]


class LabelQuality(Value):
    """How good the draws of a label are, by the dataset's judge and the features of its feature network."""

    accuracy: Figure = Field(description="open set: a rejected draw counts as wrong")
    closed_accuracy: Figure = Field(description="closed set: the most likely label counts")
    density: Figure = Field(
        description="mean number of neighbourhoods of real images around a draw, over k; 1 for real images"
    )
    coverage: Figure = Field(description="share of real test images that have a draw in their neighbourhood")
    relative_accuracy: Figure | None = Field(
        None,
        description="accuracy divided by the judge's accuracy on real test images; null in reports of "
        "earlier releases",
    )
    relative_coverage: Figure | None = Field(
        None,
        description="coverage divided by that of as many real train images; about 1 for perfect draws, "
        "however many images there are; null in reports of earlier releases",
    )
    diversity: Figure = Field(
        description="mean distance between two draws, divided by that between two real test images"
    )
    elbo: Figure = Field(description="mean evidence lower bound of real test images, in nats")


class QualityPart(LabelQuality):
    """How good the draws of a dataset's labels are: the means over labels, and each label."""

    fid: Figure = Field(description="Frechet distance between draws and real train images")
    fid_floor: Figure = Field(
        description="the same distance between real test and train images: what perfect draws would have"
    )
    coverage_ratio: ReferenceFigure | None = Field(
        None,
        description="coverage by sets of as many draws as a label has real test images, divided by that of "
        "the references; null if nothing was forgotten",
    )
    labels: dict[str, LabelQuality]


class Picture(Value):
    """Grey-level images, one byte a pixel: one image after the other, each row by row."""

    n: int = Field(description="number of images")
    pixels: int = Field(description="pixels of each image")
    base64: str = Field(description="the bytes, in base64")


class Pictures(Value):
    """Images that the recovery attack ended with, in this version and in one reference."""

    candidate: Picture
    reference: Picture


class LabelForgetting(Value):
    """The tests of a forgotten label, compared with references that never saw it."""

    accuracy: ComparedFigure
    recovery: RecoveryFigure
    relearning: RelearningFigure
    membership: MembershipFigure
    two_sample: TwoSampleFigure = Field(description="has no threshold")
    pictures: Pictures | None = None
    verdict: Verdict | None = Field(description="of all figures: met if each figure with a threshold met it")
    missed: tuple[str, ...] = Field(description="names of the figures that missed their threshold")
    unmeasured: tuple[str, ...] = Field(
        description="names of the figures that have a threshold but no verdict"
    )


class ForgettingPart(Value):
    """The tests of every forgotten label of the main network, compared with references."""

    labels: dict[str, LabelForgetting]
    distance: FunctionDistance = Field(description="has no threshold")
    control: Figure = Field(
        description="AUC of the membership attack on a network that was made to memorise its members"
    )
    verdict: Verdict | None = Field(description="of all labels and the control")
    missed: tuple[str, ...] = Field(description="`label: figure`, or `control`")


class ReferencePart(Value):
    """The networks that were retrained without the forgotten labels."""

    seeds: int = Field(description="number of networks that the figures are compared with")
    accuracy: tuple[float, ...] = Field(
        description="accuracy on the retained labels, of each network that was retrained"
    )
    schedule: dict[str, Any] = Field(description="how they were trained")
    encoder_widths: tuple[int, ...]
    decoder_widths: tuple[int, ...]
    reason: str | None = Field(None, description="why there is no network to compare with")


class Evaluated(Value):
    """The version that an evaluate job measured, and the params and seed it measured with."""

    version: int
    manifest_sha256: str
    params: dict[str, Any]
    seed: int


class FullReport(Report):
    """Everything that can be measured, compared with references retrained without the forgotten labels."""

    level: Literal["full"] = "full"
    quality: dict[str, QualityPart] = Field(description="by dataset")
    forgetting: ForgettingPart
    feature_network: dict[str, ClassifierSummary] = Field(description="by dataset")
    reference: ReferencePart
    evaluated: Evaluated | None = None
