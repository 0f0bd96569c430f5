"""Measure the quality of draws: accuracy, density, coverage, diversity, ELBO and FID."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reports import Figure, LabelQuality, QualityPart, ReferenceFigure
from worker.learning.elbo import negative_elbo
from worker.learning.judging.coverage import Neighbourhoods, RelativeCoverage, sample_images
from worker.learning.judging.distances import diversity, frechet_distance
from worker.learning.judging.estimates import mean_over_images, share
from worker.learning.judging.feature_network import FeatureNetwork
from worker.learning.judging.judge import Judge
from worker.learning.networks.network import Network
from worker.learning.resuming import State

Once = Callable[[str, Callable[[], State]], State]

MIN_FOR_FID = 2000  # images: with fewer, FID is biased by more than the differences it is to show
CHUNK = 1000


def compute_at_once(name: str, compute: Callable[[], State]) -> State:
    """Compute: the `Once` of a measurement that is not resumed."""
    return compute()


@dataclass(frozen=True)
class LabelImages:
    """One label's draws, and its real images of both splits. All are [n, pixels] in [0, 1]."""

    source: str  # name of the label in its dataset
    drawn: Tensor
    train: Tensor
    test: Tensor


def measure_quality(
    network: Network,
    slots: Mapping[str, int],
    images: Mapping[str, LabelImages],
    judge: Judge,
    feature_network: FeatureNetwork,
    rng: torch.Generator,
    *,
    once: Once = compute_at_once,
) -> QualityPart:
    """Measure the draws of one dataset's labels: each label, and the means over them.

    slots, images: by label, at least one. rng: for the latents of the ELBO. once: computes each label's
    quality, and FID, or returns what an earlier attempt computed. The coverage ratio is left out, because it
    needs references.
    """

    def of_label(name: str, one: LabelImages) -> LabelQuality:
        def measure() -> State:
            found = _label_quality(network, slots[name], one, judge, feature_network, rng)
            return {"quality": found.model_dump(mode="json")}

        return LabelQuality.model_validate(once(f"quality of {name}", measure)["quality"])

    def measure_fid() -> State:
        both = _fid(list(images.values()), feature_network)
        return {"fid": [one.model_dump(mode="json") for one in both]}

    labels = {name: of_label(name, one) for name, one in images.items()}
    measured = list(labels.values())
    fid, fid_floor = (Figure.model_validate(one) for one in once("FID", measure_fid)["fid"])
    return QualityPart(
        accuracy=mean_over_labels([one.accuracy for one in measured]),
        closed_accuracy=mean_over_labels([one.closed_accuracy for one in measured]),
        density=mean_over_labels([one.density for one in measured]),
        coverage=mean_over_labels([one.coverage for one in measured]),
        relative_accuracy=_mean_if_measured([one.relative_accuracy for one in measured]),
        relative_coverage=_mean_if_measured([one.relative_coverage for one in measured]),
        diversity=mean_over_labels([one.diversity for one in measured]),
        elbo=mean_over_labels([one.elbo for one in measured]),
        fid=fid,
        fid_floor=fid_floor,
        labels=labels,
    )


def unmeasured_quality(reason: str, coverage_ratio: ReferenceFigure | None) -> QualityPart:
    """Return the quality of a dataset whose draws could not be measured."""
    nothing = Figure.unmeasured(reason)
    return QualityPart(
        accuracy=nothing,
        closed_accuracy=nothing,
        density=nothing,
        coverage=nothing,
        relative_accuracy=nothing,
        relative_coverage=nothing,
        diversity=nothing,
        elbo=nothing,
        fid=nothing,
        fid_floor=nothing,
        coverage_ratio=coverage_ratio,
        labels={},
    )


@torch.no_grad()
def negative_elbos(network: Network, slot: int, images: Tensor, rng: torch.Generator) -> Tensor:
    """Return -ELBO of every image, [n], in nats, with one latent draw each."""
    parts = []
    for chunk in torch.split(images, CHUNK):
        slots = torch.full((len(chunk),), slot)
        parts.append(negative_elbo(network, chunk, slots, network.noise(slots, rng)))
    return torch.cat(parts)


def mean_over_labels(figures: Sequence[Figure]) -> Figure:
    """Return the mean of the labels' figures, all measured; its interval takes them as independent."""
    values = [one.value for one in figures if one.value is not None]
    mean, n = sum(values) / len(values), sum(one.n for one in figures)
    intervals = [one.interval for one in figures if one.interval is not None]
    if len(intervals) < len(figures):
        return Figure(value=mean, n=n)
    half = sum(((high - low) / 2) ** 2 for low, high in intervals) ** 0.5 / len(figures)
    return Figure(value=mean, n=n, interval=(mean - half, mean + half))


def _mean_if_measured(figures: Sequence[Figure | None]) -> Figure:
    """The mean of the labels' figures; unmeasured if one of them is."""
    found = [one for one in figures if one is not None]
    unmeasured = [one for one in found if one.value is None]
    return unmeasured[0] if unmeasured else mean_over_labels(found)


def _label_quality(
    network: Network,
    slot: int,
    images: LabelImages,
    judge: Judge,
    feature_network: FeatureNetwork,
    rng: torch.Generator,
) -> LabelQuality:
    index, n = judge.labels.index(images.source), len(images.drawn)
    drawn, real = feature_network.embed(images.drawn), feature_network.embed(images.test)
    around, judged = Neighbourhoods.of(real), judge.embed(images.drawn)
    covered = around.covered(drawn)
    accuracy = share(int(torch.sum(judge.classify_features(judged) == index)), n).figure()
    return LabelQuality(
        accuracy=accuracy,
        closed_accuracy=share(int(torch.sum(judge.most_likely_labels(judged) == index)), n).figure(),
        density=mean_over_images(around.depths(drawn)).figure(),
        coverage=share(int(covered.sum()), len(covered)).figure(),
        relative_accuracy=_relative_accuracy(accuracy, judge, index, images.test),
        relative_coverage=_relative_coverage(around, drawn, images.train, feature_network),
        diversity=Figure(value=diversity(drawn, real), n=n),
        elbo=mean_over_images(-negative_elbos(network, slot, images.test, rng)).figure(),
    )


def _relative_accuracy(accuracy: Figure, judge: Judge, index: int, test: Tensor) -> Figure:
    recognised = judge.classify(test).eq(index).float().mean().item()
    if not recognised:
        return Figure.unmeasured("the judge recognises none of the label's real test images")
    low, high = accuracy.interval or (accuracy.measured_value, accuracy.measured_value)
    return Figure(
        value=accuracy.measured_value / recognised,
        n=accuracy.n,
        interval=(low / recognised, high / recognised),
    )


def _relative_coverage(
    around: Neighbourhoods, drawn: Tensor, train: Tensor, feature_network: FeatureNetwork
) -> Figure:
    """The relative coverage. Its interval takes the coverage of real images as known."""
    others = feature_network.embed(sample_images(train, len(drawn)))
    relative = RelativeCoverage.of(around, others, len(drawn))
    if relative is None:
        return Figure.unmeasured("the real train images cover none of the real test images")
    return mean_over_images(relative.by_image(drawn)).figure()


def _fid(images: Sequence[LabelImages], feature_network: FeatureNetwork) -> tuple[Figure, Figure]:
    """The FID between draws and real train images, and its floor: the FID of as many real test images."""
    sizes = [min(len(one.drawn), len(one.test)) for one in images]
    if sum(sizes) < MIN_FOR_FID:
        reason = (
            f"FID needs {MIN_FOR_FID} images, and there are {sum(sizes)}: draw more, or learn more labels"
        )
        return Figure.unmeasured(reason), Figure.unmeasured(reason)
    train = feature_network.embed(
        torch.cat([one.train[: 2 * n] for one, n in zip(images, sizes, strict=True)])
    )
    drawn, test = (
        feature_network.embed(torch.cat([one[:n] for one, n in zip(split, sizes, strict=True)]))
        for split in ([one.drawn for one in images], [one.test for one in images])
    )
    return (
        Figure(value=frechet_distance(drawn, train), n=len(drawn)),
        Figure(value=frechet_distance(test, train), n=len(test)),
    )
