"""Measure the default strategies on every dataset offered, and on uploads, by an independent classifier.

    python -m experiments.datasets [--only NAME,...] [--upload FILE] [--json FILE] [--page FILE] [--quick]

A model learns five labels, learns three more, forgets two and is pruned; of a dataset with many labels it
learns three times eighteen and forgets three. After each job, draws of every label are classified by a
network that is not the product's judge (experiments/independent_classifier.py):

`accuracy`   share of the draws of the labels held whose likeliest label is theirs, mean over labels.
`real`       the same for real images that neither the model nor the classifier has seen.
`relative`   accuracy / real.
`posterior`  the same for draws from the posteriors of real training images: what the decoder can do at best.
`ratio`      accuracy / posterior.
`forgotten`  share of a forgotten label's draws that show it, where the classifier may also answer "none"; of
             the label for which it is highest.
`relative_coverage`  the coverage of unseen real images by draws, divided by that of as many train images.
`seconds`    how long the strategy ran, on one thread.

--upload FILE measures an upload instead, a file as the API takes it.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments import running
from experiments.dataset_cases import Case, CaseImages, all_cases, upload_case
from experiments.datasets_page import page, read_result
from experiments.independent_classifier import (
    QUICK_STEPS,
    STEPS,
    IndependentClassifier,
    restore_classifier,
    train_classifier,
)
from experiments.running import Cache, OnStep, Result, Trial
from experiments.training_setup import CPU, QUICK_DIVISOR, DatasetArchive, examples_of, params_of
from service.requests.invalid_upload import InvalidUpload
from worker.learning import drawing, strategy
from worker.learning.checkpoint import Checkpoint
from worker.learning.judging.coverage import NEIGHBOURS, Neighbourhoods, RelativeCoverage, sample_images
from worker.learning.networks import blank, frozen
from worker.learning.strategy import Examples, Operation, Strategy, TrainingContext, derive_seed
from worker.learning.transition import apply_strategy
from worker.process.devices import compute_reproducibly

SEED = 1
MANY_LABELS = 30
LEARNED_OF_MANY = 18
"""Labels of a learn, where there are many."""
DRAWS, DRAWS_OF_MANY, QUICK_DRAWS = 1000, 250, 50
"""Draws of each label."""


@dataclass(frozen=True)
class Step:
    """One job of the sequence."""

    operation: Operation
    labels: tuple[str, ...] = ()

    @property
    def strategy(self) -> Strategy:
        """What a request gets that names no strategy. The only resize is a prune, and no label temporary."""
        return next(
            one
            for one in strategy.all_strategies()
            if one.default
            and one.operation == self.operation
            and one.retention == "permanent"
            and one.policy in (None, "prune")
        )


def main() -> None:
    parser = running.make_parser(__doc__, seeds=False, plots=False)
    parser.add_argument("--only", type=lambda names: names.split(","), help="names of datasets, by commas")
    parser.add_argument("--upload", type=Path, help="an upload to measure instead")
    parser.add_argument("--page", type=Path, help="file for the page")
    options = parser.parse_args()
    cases = _chosen(options, parser)
    cache = running.cache_of(options)
    trials = [make_trial(case, options, cache) for case in cases]
    results = running.run_all(trials, options)
    rows = [{"name": case.name, "title": case.title, **one} for case, one in zip(cases, results, strict=True)]
    running.write_results("datasets", summarize(rows), {"datasets": rows}, options, trials=results)
    if options.page:
        options.page.write_text(page(read_result(options.json)))


def _chosen(options: argparse.Namespace, parser: argparse.ArgumentParser) -> list[Case]:
    if options.upload is not None:
        case = upload_case(options.upload)
        try:
            case.load(options.upload.parent)
        except (OSError, InvalidUpload) as error:
            parser.error(f"{options.upload}: {error}")
        return [case]
    known = all_cases()
    names = options.only or list(known)
    if unknown := sorted(set(names) - set(known)):
        parser.error(f"no dataset {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in names]


def make_trial(case: Case, options: argparse.Namespace, cache: Cache) -> Trial:
    """Return the sequence on a dataset as a trial."""
    quick = "-quick" if options.quick else ""
    source = options.upload or case.name
    content = f"-{sha256(options.upload.read_bytes()).hexdigest()[:12]}" if options.upload else ""
    run = partial(run_case, source, running.data_folder(options), cache, quick=options.quick)
    return Trial(f"{case.name}{content}{quick}", 4, run)


def run_case(source: str | Path, data: Path, cache: Cache, on_step: OnStep, *, quick: bool) -> Result:
    """Run the sequence on a dataset by its name, or on an upload by its path; return a row for each job."""
    compute_reproducibly(threads=1)
    case = upload_case(source) if isinstance(source, Path) else all_cases()[source]
    images = case.load(data)
    classifier, training = find_classifier(images, cache, quick=quick)
    many = len(images.dataset.labels) >= MANY_LABELS
    draws = QUICK_DRAWS if quick else DRAWS_OF_MANY if many else DRAWS
    scorer = Scorer(images, classifier, draws)
    checkpoint = blank({}, seed=SEED)
    archive = DatasetArchive(images.dataset, checkpoint)
    rows = []
    for number, step in enumerate(steps_of(images.dataset.labels), start=1):
        chosen = step.strategy
        request = (
            examples_of(images.dataset, step.labels)
            if step.operation == "learn"
            else Examples(step.labels, images.dataset.name)
        )
        params = params_of(chosen, {}, step_divisor=QUICK_DIVISOR**2 if quick else 1)
        context = TrainingContext(CPU, derive_seed(SEED, number), archive)
        began = time.perf_counter()
        checkpoint = apply_strategy(checkpoint, chosen, request, params, context)
        seconds = time.perf_counter() - began
        row: Result = {"operation": step.operation, "strategy": chosen.name, "labels": list(step.labels)}
        row |= {"seconds": round(seconds, 1), "learned_again": context.findings.get("learned_again")}
        rows.append(row | scorer.score(checkpoint))
        on_step(f"{case.name}: {chosen.name} {' '.join(step.labels)}, {rows[-1]['accuracy']:.1%}")
    sizes = [len(one) for one in images.dataset.train.values()]
    return {
        "labels": len(images.dataset.labels),
        "train_images": {"fewest": min(sizes), "most": max(sizes)},
        "draws": draws,
        "classifier": training | {"name": images.classifier, "accuracy": scorer.real_accuracy},
        "rows": rows,
    }


def find_classifier(
    images: CaseImages, cache: Cache, *, quick: bool
) -> tuple[IndependentClassifier, dict[str, Any]]:
    """Train the classifier of a dataset, or read it where it was trained; return it with how it was."""
    steps = QUICK_STEPS if quick else STEPS
    name = f"classifier-{images.classifier}-{steps}.safetensors"
    file = cache.file(name, lambda: train_classifier(images.seen, steps=steps))
    training = {"images": sum(map(len, images.seen.values())), "steps": steps}
    return restore_classifier(tuple(images.seen), file.read_bytes()), training


def steps_of(labels: Sequence[str]) -> list[Step]:
    """Return the sequence for a dataset with these labels. Raises ValueError if there are fewer than two.

    Of a dataset with few labels, the first learn takes five of eight, and the second the rest. One of each
    learn is forgotten; of two labels only the first is, so that one is held.
    """
    if len(labels) < 2:
        raise ValueError(f"the sequence needs two labels, and there is only {', '.join(labels) or 'none'}")
    if len(labels) >= MANY_LABELS:
        size = min(LEARNED_OF_MANY, len(labels) // 3)
        learned = [tuple(labels[start : start + size]) for start in range(0, 3 * size, size)]
    else:
        first = min(5, -(-5 * len(labels) // 8), len(labels) - 1)
        learned = [tuple(labels[:first]), tuple(labels[first : first + 3])]
    forgotten = tuple(some[len(some) // 2] for some in learned)[: len(labels) - 1]
    jobs = [Step("learn", some) for some in learned] + [Step("forget", forgotten)]
    return jobs if len(labels) >= MANY_LABELS else [*jobs, Step("resize")]


@dataclass(frozen=True)
class Scorer:
    """Scores checkpoints that learned a dataset."""

    images: CaseImages
    classifier: IndependentClassifier
    draws: int

    def score(self, checkpoint: Checkpoint) -> Result:
        """Return the figures of a checkpoint: means over the labels held, and each label."""
        held = {name: self._score_label(checkpoint, name) for name in checkpoint.retained}
        forgotten = {name: self._recognised(checkpoint, name) for name in checkpoint.forgotten}
        means = {name: _mean([one[name] for one in held.values()]) for name in next(iter(held.values()))}
        return {
            "held": len(held),
            "parameters": checkpoint.parameters,
            **means,
            "relative": _ratio(means["accuracy"], means["real"]),
            "ratio": _ratio(means["accuracy"], means["posterior"]),
            "worst_label": min(one["accuracy"] for one in held.values()),
            "forgotten": max(forgotten.values(), default=None),
            "by_label": held,
            "forgotten_by_label": forgotten,
        }

    @cached_property
    def real_accuracy(self) -> float:
        """The classifier's accuracy on unseen real images of all labels."""
        shares = [self.classifier.recognised(self._real[name], name) for name in self._real]
        return statistics.mean(shares)

    def _score_label(self, checkpoint: Checkpoint, label: str) -> dict[str, Any]:
        drawn = self.classifier.embed(self._draw(checkpoint, label))
        posterior = self.classifier.embed(self._draw_from_posteriors(checkpoint, label))
        coverage = self._coverage[label]
        return {
            "accuracy": self.classifier.recognised(drawn, label),
            "real": self.classifier.recognised(self._real[label], label),
            "posterior": self.classifier.recognised(posterior, label),
            "relative_coverage": None if coverage is None else coverage.of_draws(drawn),
            "posterior_relative_coverage": None if coverage is None else coverage.of_draws(posterior),
        }

    def _recognised(self, checkpoint: Checkpoint, label: str) -> float:
        features = self.classifier.embed(self._draw(checkpoint, label))
        return self.classifier.recognised(features, label, may_reject=True)

    def _draw(self, checkpoint: Checkpoint, label: str) -> Tensor:
        return drawing.draw(checkpoint, label, self.draws, derive_seed(SEED, "draws", label))

    @torch.no_grad()
    def _draw_from_posteriors(self, checkpoint: Checkpoint, label: str) -> Tensor:
        """Draw from q(z | x, c) of train images x; several times of each, where there are few."""
        rng = torch.Generator().manual_seed(derive_seed(SEED, "posteriors", label))
        network, train = frozen(checkpoint, CPU), sample_images(self.images.dataset.train[label], self.draws)
        images = train[torch.arange(self.draws) % len(train)].float() / 255
        slots = torch.full((self.draws,), checkpoint.label(label).slot)
        mean, logvar = network.encode(images, slots)
        latents = mean + (0.5 * logvar).exp() * torch.randn(mean.shape, generator=rng)
        return network.decode(latents, slots).sigmoid()

    @cached_property
    def _real(self) -> dict[str, Tensor]:
        """The features of unseen real images of each label."""
        return {
            name: self.classifier.embed(sample_images(images, DRAWS).float() / 255)
            for name, images in self.images.unseen.items()
        }

    @cached_property
    def _coverage(self) -> dict[str, RelativeCoverage | None]:
        """Of each label, what its coverage is divided by; None where there are too few real images."""
        return {name: self._coverage_of(name) for name in self._real}

    def _coverage_of(self, label: str) -> RelativeCoverage | None:
        real = self._real[label]
        if len(real) <= NEIGHBOURS:
            return None
        train = sample_images(self.images.dataset.train[label], self.draws).float() / 255
        return RelativeCoverage.of(Neighbourhoods.of(real), self.classifier.embed(train), self.draws)


def summarize(datasets: Sequence[Result]) -> Result:
    """Return the worst figure of all datasets and jobs, for each figure that has a bar."""
    rows = [(one["name"], row) for one in datasets for row in one["rows"]]
    ratio = min(rows, key=lambda row: row[1]["ratio"])
    forgotten = [row for row in rows if row[1]["forgotten"] is not None]
    worst = max(forgotten, key=lambda row: row[1]["forgotten"])
    return {
        "lowest_ratio": {"dataset": ratio[0], "value": ratio[1]["ratio"]},
        "highest_forgotten": {"dataset": worst[0], "value": worst[1]["forgotten"]},
    }


def _ratio(accuracy: float, limit: float) -> float:
    return accuracy / limit if limit else 0.0


def _mean(values: Sequence[float | None]) -> Any:
    """The mean of values that were all measured; otherwise None."""
    measured = [value for value in values if value is not None]
    return statistics.mean(measured) if len(measured) == len(values) else None


if __name__ == "__main__":
    main()
