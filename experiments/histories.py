"""Random histories of learning and forgetting, as in the paper's section 5, each compared with simple models.

A model starts with a random set of a dataset's labels. In each pass, a coin flip decides whether it learns a
random non-empty subset of the labels it lacks, or forgets a random proper subset of those it holds.

A `simple` model (the paper's term) is a new network of the first size, trained once on real images of the
labels held, with as many steps as one learning takes. It also shows what a forgotten label should
draw: `unfilled` is the share of each of the judge's answers for draws from a slot that no label ever filled.
"""

import json
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from experiments.running import Cache, OnStep, Result, Trial
from experiments.scoring import DRAWS, Scorer, score_checkpoint
from experiments.training_setup import CPU, DatasetArchive, examples_of, params_of
from worker.learning import datasets, strategy
from worker.learning.checkpoint import Checkpoint
from worker.learning.networks import blank
from worker.learning.slots import with_slots
from worker.learning.strategy import Examples, TrainingContext
from worker.learning.transition import apply_strategy
from worker.process.devices import compute_reproducibly

SimpleModels = Literal["every", "last", "never"]
"""After which passes a simple model is trained."""
UNUSED_LABEL = "nobody"
"""Name of a label that a simple model has a slot for and never learns."""


@dataclass(frozen=True)
class Plan:
    """How a history learns and forgets: the strategies, their params, and whether a resize follows."""

    learn: str
    forget: str
    suffix: str = ""
    """Distinguishes plans with the same strategies in what is printed."""
    learn_params: Mapping[str, Any] = field(default_factory=dict)
    forget_params: Mapping[str, Any] = field(default_factory=dict)
    resize: str | None = None
    """The resize strategy that runs after every operation, if any."""
    step_divisor: int = 1
    """How many times fewer steps the trainings take than by default."""

    def operation(self, name: Literal["learn", "forget"]) -> tuple[str, Mapping[str, Any]]:
        return (self.learn, self.learn_params) if name == "learn" else (self.forget, self.forget_params)

    @property
    def title(self) -> str:
        return f"{self.learn}-{self.forget}{self.suffix}{_steps_suffix(self.step_divisor)}"

    @property
    def key(self) -> str:
        """A name that no other plan has."""
        more = json.dumps([self.learn_params, self.forget_params, self.resize], sort_keys=True)
        return f"{self.title}-{sha256(more.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Setting:
    """What all histories of an experiment have in common: data, number of passes, network and scoring."""

    data: Path
    passes: int
    simple: SimpleModels = "every"
    dataset: str = "mnist"
    network: Mapping[str, Any] = field(default_factory=dict)
    threads: int = 1
    """Threads of each process."""
    draws: int = DRAWS
    """Number of draws that a label is scored on."""


def make_trial(plan: Plan, seed: int, setting: Setting, cache: Cache) -> Trial:
    """Return the history of a seed as a trial."""
    threads = "" if setting.threads == 1 else f"-{setting.threads}-threads"
    start = f"{setting.dataset}-{setting.network.get('architecture', 'mlp')}"
    name = f"{start}-{plan.key}-{setting.passes}-simple-{setting.simple}{threads}-{seed}"
    return Trial(name, setting.passes, partial(run_history, plan, seed, setting, cache))


def run_history(plan: Plan, seed: int, setting: Setting, cache: Cache, on_step: OnStep) -> Result:
    """Run the passes of a history; return the scores after each, with those of the simple model, if any."""
    compute_reproducibly(threads=setting.threads)
    dataset, rng = datasets.load(setting.dataset, setting.data), random.Random(seed)
    scorer = Scorer.of(dataset, setting.draws)
    archive = DatasetArchive(dataset, blank(setting.network, seed=seed))
    first = rng.sample(dataset.labels, rng.randint(1, len(dataset.labels)))
    start, request = archive.blank_model, examples_of(dataset, first)
    checkpoint, _ = run_operation("learn", plan, start, request, archive, seed)
    rows: list[Result] = []
    simple: Result | None = None
    for number in range(1, setting.passes + 1):
        operation, labels = sample_pass(rng, set(dataset.labels), set(checkpoint.retained))
        request = examples_of(dataset, labels) if operation == "learn" else Examples(labels, dataset.name)
        began = time.perf_counter()
        checkpoint, findings = run_operation(
            operation, plan, checkpoint, request, archive, 1000 * seed + number
        )
        seconds = time.perf_counter() - began
        row: Result = {"pass": number, "operation": operation, "labels": labels, "seconds": seconds}
        row |= {"learned_again": findings.get("learned_again")} if operation == "learn" else {}
        scores = score_checkpoint(checkpoint, scorer, seed=1000 * seed + number)
        if setting.simple == "every" or (setting.simple == "last" and number == setting.passes):
            simple = score_simple_model(checkpoint, scorer, archive, dataset, seed, plan.step_divisor, cache)
        rows.append(row | scores | {"simple": simple})
        on_step(f"{plan.title}, seed {seed}: {operation} {' '.join(labels)}, {scores['closed']:.1%}")
    return {"seed": seed, "passes": rows, "simple": simple}


def sample_pass(
    rng: random.Random, labels: set[str], held: set[str]
) -> tuple[Literal["learn", "forget"], tuple[str, ...]]:
    """Choose the operation and the labels of a pass at random. At least one label always stays."""
    missing = sorted(labels - held)
    learns = bool(missing) and (len(held) < 2 or rng.random() < 0.5)
    most = len(missing) if learns else len(held) - 1
    chosen = tuple(sorted(rng.sample(missing if learns else sorted(held), rng.randint(1, most))))
    return ("learn" if learns else "forget"), chosen


def run_operation(
    operation: Literal["learn", "forget"],
    plan: Plan,
    checkpoint: Checkpoint,
    request: Examples,
    archive: DatasetArchive,
    seed: int,
) -> tuple[Checkpoint, Mapping[str, Any]]:
    """Return the checkpoint after the operation and, if the plan has one, the resize that follows it.

    With it come the findings of the operation.
    """
    name, params = plan.operation(operation)
    chosen, context = strategy.find(operation, name), TrainingContext(CPU, seed, archive)
    complete = params_of(chosen, params, step_divisor=plan.step_divisor)
    after = apply_strategy(checkpoint, chosen, request, complete, context)
    if plan.resize is None:
        return after, context.findings
    resize = strategy.find("resize", plan.resize)
    nothing, resize_context = Examples((), request.dataset), context.with_seed_for("resize")
    return resize.run(after, nothing, resize.Params(), resize_context), context.findings


def score_simple_model(
    checkpoint: Checkpoint,
    scorer: Scorer,
    archive: DatasetArchive,
    dataset: datasets.Dataset,
    seed: int,
    step_divisor: int,
    cache: Cache,
) -> Result:
    """Return the scores of a simple model of the labels held.

    One is trained for each architecture, seed and set of labels.
    """
    held = tuple(sorted(checkpoint.retained))

    def train_and_score() -> Result:
        began = time.perf_counter()
        retrain = Plan("retrain", "", step_divisor=step_divisor)
        start, request = archive.blank_model, examples_of(dataset, held)
        model, _ = run_operation("learn", retrain, start, request, archive, seed)
        seconds = time.perf_counter() - began
        with_unused_slot = with_slots(model, [UNUSED_LABEL], dataset.name, "forgotten")
        answers = scorer.answer_shares(with_unused_slot, UNUSED_LABEL, seed)
        unfilled = dict(zip(scorer.judge.labels, answers, strict=False))  # without the last answer, "none"
        return score_checkpoint(model, scorer, seed=seed) | {"seconds": seconds, "unfilled": unfilled}

    architecture = checkpoint.spec.architecture
    network = "" if architecture == "mlp" else f"-{architecture}"  # as results of mlp are stored already
    name = f"{dataset.name}{network}-simple{_steps_suffix(step_divisor)}-{seed}-{'_'.join(held)}"
    return cache.result(name, train_and_score)


def _steps_suffix(step_divisor: int) -> str:
    return "" if step_divisor == 1 else f"-steps-by-{step_divisor}"
