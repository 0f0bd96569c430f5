"""The report of a version: `Report` as every job measures it, `FullReport` as an evaluate job does."""

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
"""Of the reports this release writes. Release 0.1.0 wrote reports without a format number: those are 1."""

Level = Literal["quick", "full"]
Guarantee = Literal["exact", "approximate"]


class ClassifierSummary(Value):
    """Which classifier measured a dataset's images, and how good it is. Without a version there is none."""

    version: str | None = Field(description="sha256 of its weights")
    test_accuracy: float | None = Field(description="on real test images of the dataset")
    reason: str | None = Field(None, description="why there is none")


class JudgeSummary(ClassifierSummary):
    """Which judge measured a dataset's images, and how good it is."""

    missed: tuple[str, ...] = Field((), description="quality figures whose threshold the judge itself misses")


class LayerCapacity(Value):
    """How much of a hidden layer is in use."""

    units: int
    dead_units: int = Field(description="units that change no draw")
    effective_rank: float = Field(description="directions the layer's outputs vary in")


class Capacity(Value):
    """The size of the networks, and how much of the main one is in use."""

    parameters: int = Field(description="of the main network")
    isolated_parameters: dict[str, int] = Field(description="of each temporary label's own network")
    encoder_widths: tuple[int, ...]
    decoder_widths: tuple[int, ...]
    layers: dict[str, LayerCapacity] = Field(
        {}, description="by hidden layer; measured in full reports alone"
    )


class ExampleCounts(Value):
    """How many real images of each label the job was given."""

    dataset: str
    labels: dict[str, int]


class Report(Value):
    """What was measured of a version before it was published, and what it is held to."""

    format: Literal[2] = 2
    level: Level = "quick"
    n: int = Field(description="draws of every label")
    seed: int = Field(description="what the draws are a function of")
    judge: dict[str, JudgeSummary] = Field(description="by dataset")
    retained: LabelGroup = Field(description="the labels the version holds")
    forgotten: LabelGroup = Field(description="the forgotten labels a network of the version could draw")
    capacity: Capacity
    criteria: tuple[Criterion, ...] = Field((), description="what the acceptance criteria of its job found")
    examples: ExampleCounts | None = Field(None, description="null in the report of an evaluate job")
    guarantee: Guarantee | None = Field(
        None,
        description="exact: by the way the weights were made, the forgotten labels have no part in them; "
        "null for a job that forgot nothing",
    )
    findings: dict[str, Any] = Field(
        {}, description="what the strategy tells of its decisions, in its own words"
    )

    @property
    def relapsed(self) -> list[str]:
        """The forgotten labels that are drawn more often than they may be."""
        return [name for name, figure in self.forgotten.labels.items() if figure.verdict == "missed"]


class LabelQuality(Value):
    """How good the draws of a label are, measured with the features of the dataset's feature network."""

    accuracy: Figure = Field(description="open set: a rejected draw is a wrong one")
    closed_accuracy: Figure = Field(description="closed set: the likeliest label counts")
    density: Figure = Field(description="real neighbourhoods a draw lies in, over k: 1 for real images")
    coverage: Figure = Field(description="share of real test images with a draw in their neighbourhood")
    diversity: Figure = Field(description="mean distance of two draws over that of two real test images")
    elbo: Figure = Field(description="evidence lower bound of real test images, nats")


class QualityPart(LabelQuality):
    """How good the draws of a dataset's labels are: the means over labels, and each label."""

    fid: Figure = Field(description="Frechet distance of draws to real train images")
    fid_floor: Figure = Field(description="the same distance of real test images")
    coverage_ratio: ReferenceFigure | None = Field(
        None, description="coverage over that of the references; null where nothing was forgotten"
    )
    labels: dict[str, LabelQuality]


class Picture(Value):
    """Images in grey levels, as the bytes of one image after the other, row by row."""

    n: int = Field(description="images")
    pixels: int = Field(description="of each")
    base64: str


class Pictures(Value):
    """Images that the recovery attack ended with: of this version, and of one reference."""

    candidate: Picture
    reference: Picture


class LabelForgetting(Value):
    """How a forgotten label was tested beside references that never saw it."""

    accuracy: ComparedFigure
    recovery: RecoveryFigure
    relearning: RelearningFigure
    membership: MembershipFigure
    two_sample: TwoSampleFigure = Field(description="informs only")
    pictures: Pictures | None = None
    verdict: Verdict | None = Field(description="of all figures: met if each that has a threshold met it")
    missed: tuple[str, ...] = Field(description="figures that missed their threshold")
    unmeasured: tuple[str, ...] = Field(description="figures with a threshold and without a verdict")


class ForgettingPart(Value):
    """How every forgotten label of the main network was tested beside references."""

    labels: dict[str, LabelForgetting]
    distance: FunctionDistance = Field(description="informs only")
    control: Figure = Field(
        description="AUC of the membership attack on a network that knows its members by heart"
    )
    verdict: Verdict | None = Field(description="of all labels and the control")
    missed: tuple[str, ...] = Field(description="`label: figure`, or `control`")


class ReferencePart(Value):
    """The networks that were retrained without the forgotten labels."""

    seeds: int = Field(description="how many the figures are compared with")
    accuracy: tuple[float, ...] = Field(description="of what is held, by each that was retrained")
    schedule: dict[str, Any] = Field(description="how they were trained")
    encoder_widths: tuple[int, ...]
    decoder_widths: tuple[int, ...]
    reason: str | None = Field(None, description="why there is none to compare with")


class Evaluated(Value):
    """What an evaluate job measured."""

    version: int
    manifest_sha256: str
    params: dict[str, Any]
    seed: int


class FullReport(Report):
    """Everything that can be measured, beside references retrained without the forgotten labels."""

    level: Literal["full"] = "full"
    quality: dict[str, QualityPart] = Field(description="by dataset")
    forgetting: ForgettingPart
    feature_network: dict[str, ClassifierSummary] = Field(description="by dataset")
    reference: ReferencePart
    evaluated: Evaluated | None = None
