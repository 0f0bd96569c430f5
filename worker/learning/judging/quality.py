"""The quality of a network's draws: right, near to real images, as varied as they are, and likely."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from worker.learning.elbo import negative_elbo
from worker.learning.judging.coverage import Neighbourhoods, embedded
from worker.learning.judging.distances import diversity, frechet
from worker.learning.judging.evidence import Figure, figure, over_images, share, unmeasured
from worker.learning.judging.feature_network import FeatureNetwork
from worker.learning.judging.judge import Judge
from worker.learning.networks.network import Network

LEAST_FOR_FID = 2000  # images: under it, FID is biased more than it says
CHUNK = 1000


@dataclass(frozen=True)
class Seen:
    """One label's images: drawn, and real ones of both splits. All [n, pixels] in [0, 1]."""

    source: str  # as its dataset knows it
    drawn: Tensor
    train: Tensor
    test: Tensor


def quality(
    network: Network,
    slots: Mapping[str, int],
    seen: Mapping[str, Seen],
    judge: Judge,
    feature_network: FeatureNetwork,
    rng: torch.Generator,
) -> dict[str, Any]:
    """The figures of all labels together, and of each under `labels`. slots, seen: by the label's name.

    accuracy (open set: a rejected draw is wrong), closed_accuracy (the likeliest label, though it be
    rejected), density, coverage, diversity, elbo (of the test images, nats); FID and its floor over all
    labels. The embedding is the feature network's.
    """
    labels = {
        name: _of_label(network, slots[name], one, judge, feature_network, rng) for name, one in seen.items()
    }
    return {**_together(labels), **_fid(list(seen.values()), feature_network), "labels": labels}


def _of_label(
    network: Network,
    slot: int,
    seen: Seen,
    judge: Judge,
    feature_network: FeatureNetwork,
    rng: torch.Generator,
) -> dict[str, Figure]:
    right = judge.labels.index(seen.source)
    drawn, real = feature_network.embedded(seen.drawn), feature_network.embedded(seen.test)
    around, n = Neighbourhoods.of(real), len(seen.drawn)
    covered, judged = around.covered(drawn), embedded(judge, seen.drawn)
    return {
        "accuracy": share(int(torch.sum(judge.answers(judged) == right)), n),
        "closed_accuracy": share(int(torch.sum(judge.closed_answers(judged) == right)), n),
        "density": over_images(around.depths(drawn)),
        "coverage": share(int(covered.sum()), len(covered)),
        "diversity": figure(diversity(drawn, real), n),
        "elbo": over_images(-negative_elbos(network, slot, seen.test, rng)),
    }


def coverage_of(seen: Mapping[str, Seen], feature_network: FeatureNetwork) -> float:
    """The mean coverage over labels."""
    each = [
        Neighbourhoods.of(feature_network.embedded(one.test)).coverage(feature_network.embedded(one.drawn))
        for one in seen.values()
    ]
    return sum(each) / len(each)


@torch.no_grad()
def negative_elbos(network: Network, slot: int, images: Tensor, rng: torch.Generator) -> Tensor:
    """Of every image, one latent draw each, nats, [n]."""
    parts = []
    for chunk in torch.split(images, CHUNK):
        slots = torch.full((len(chunk),), slot)
        parts.append(negative_elbo(network, chunk, slots, network.noise(slots, rng)))
    return torch.cat(parts)


def _together(labels: Mapping[str, Mapping[str, Figure]]) -> dict[str, Figure]:
    """The means over labels, each as often as it was measured."""
    names = next(iter(labels.values()), {})
    return {name: pooled([one[name] for one in labels.values()]) for name in names}


def pooled(figures: Sequence[Figure]) -> Figure:
    """The mean of a figure over labels, each a stratum, with the interval of a mean of means."""
    mean = sum(one["value"] for one in figures) / len(figures)
    n = sum(one["n"] for one in figures)
    if any(one["interval"] is None for one in figures):
        return figure(mean, n)
    halves = [(one["interval"][1] - one["interval"][0]) / 2 for one in figures]
    half = sum(half**2 for half in halves) ** 0.5 / len(figures)
    return figure(mean, n, interval=(mean - half, mean + half))


def _fid(seen: Sequence[Seen], feature_network: FeatureNetwork) -> dict[str, Figure]:
    """Draws against real train images, and as the floor as many real test images against the same."""
    sizes = [min(len(one.drawn), len(one.test)) for one in seen]
    if sum(sizes) < LEAST_FOR_FID:
        reason = f"FID needs {LEAST_FOR_FID} images, here are {sum(sizes)}: draw more, or hold more labels"
        return {"fid": unmeasured(reason), "fid_floor": unmeasured(reason)}
    train = feature_network.embedded(
        torch.cat([one.train[: 2 * n] for one, n in zip(seen, sizes, strict=True)])
    )
    drawn, test = (
        feature_network.embedded(torch.cat([images[:n] for images, n in zip(kind, sizes, strict=True)]))
        for kind in ([one.drawn for one in seen], [one.test for one in seen])
    )
    return {
        "fid": figure(frechet(drawn, train), len(drawn)),
        "fid_floor": figure(frechet(test, train), len(test)),
    }
