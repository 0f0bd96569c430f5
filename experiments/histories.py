"""Random histories of learning and forgetting, as in the paper's section 5, each with its simple models.

A model starts from a random set of a dataset's labels. Each pass is a coin flip: learn a random non-empty
subset of what is missing, or forget a random proper subset of what is held. A `simple` model is a fresh
network of the first size, trained on real images of the labels held, in the steps one learning takes. What it
draws in a slot nobody filled (`unfilled`: the judge's answers) is what a forgotten label should draw.
"""

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from experiments.critic import Critic, judged
from experiments.running import Found, Kept, Tell, Work
from experiments.strategies import CPU, Archive, given
from worker.learning import datasets, strategy
from worker.learning.checkpoint import Checkpoint
from worker.learning.networks import blank
from worker.learning.slots import with_slots
from worker.learning.strategy import Examples, TrainingContext
from worker.process.devices import compute_reproducibly

Simple = Literal["every", "last", "never"]
QUICKER = 5  # times fewer steps in a quick history
NOBODY = "nobody"  # a label of a simple model's that it never learnt


@dataclass(frozen=True)
class Plan:
    """How a history learns and forgets: strategies, params besides their defaults, a resize after each."""

    learn: str
    forget: str
    name: str = ""
    learn_params: Mapping[str, Any] = field(default_factory=dict)
    forget_params: Mapping[str, Any] = field(default_factory=dict)
    resize: str | None = None
    quick: bool = False

    def operation(self, name: Literal["learn", "forget"]) -> tuple[str, Mapping[str, Any]]:
        return (self.learn, self.learn_params) if name == "learn" else (self.forget, self.forget_params)

    @property
    def title(self) -> str:
        return f"{self.learn}-{self.forget}{self.name}{'-quick' if self.quick else ''}"


@dataclass(frozen=True)
class Setting:
    """What a history is run on."""

    data: Path
    passes: int
    simple: Simple = "every"
    dataset: str = "mnist"
    network: Mapping[str, Any] = field(default_factory=dict)
    threads: int = 1  # of each process


def work_of(plan: Plan, seed: int, setting: Setting, kept: Kept) -> Work:
    """The history of a seed as a piece of work."""
    threads = "" if setting.threads == 1 else f"-{setting.threads}-threads"
    name = f"{setting.dataset}-{plan.title}-{setting.passes}-simple-{setting.simple}{threads}-{seed}"
    return Work(name, setting.passes, partial(history, plan, seed, setting, kept))


def history(plan: Plan, seed: int, setting: Setting, kept: Kept, tell: Tell) -> Found:
    """One start and its passes, each judged, with the simple models asked for."""
    compute_reproducibly(threads=setting.threads)
    dataset, chance = datasets.load(setting.dataset, setting.data), random.Random(seed)
    critic = Critic.of(dataset)
    archive = Archive(dataset, blank(setting.network, seed=seed))
    first = chance.sample(dataset.labels, chance.randint(1, len(dataset.labels)))
    checkpoint = changed("learn", plan, archive.start, given(dataset, tuple(first)), archive, seed)
    rows: list[Found] = []
    simple: Found | None = None
    for number in range(1, setting.passes + 1):
        operation, chosen = drawn_pass(chance, set(dataset.labels), set(checkpoint.held))
        asked = given(dataset, chosen) if operation == "learn" else Examples(chosen, dataset.name)
        began = time.perf_counter()
        checkpoint = changed(operation, plan, checkpoint, asked, archive, 1000 * seed + number)
        seconds = time.perf_counter() - began
        row = {"pass": number, "operation": operation, "labels": chosen, "seconds": seconds}
        figures = judged(checkpoint, critic, seed=1000 * seed + number)
        if setting.simple == "every" or (setting.simple == "last" and number == setting.passes):
            simple = simple_model(plan, checkpoint, critic, archive, dataset, seed, kept)
        rows.append(row | figures | {"simple": simple})
        tell(f"{plan.title}, seed {seed}: {operation} {' '.join(chosen)}, {figures['closed']:.1%}")
    return {"seed": seed, "passes": rows, "simple": simple}


def drawn_pass(
    chance: random.Random, every: set[str], held: set[str]
) -> tuple[Literal["learn", "forget"], tuple[str, ...]]:
    """What a pass does and with which labels; one label at least stays."""
    missing = sorted(every - held)
    learns = bool(missing) and (len(held) < 2 or chance.random() < 0.5)
    most = len(missing) if learns else len(held) - 1
    chosen = tuple(sorted(chance.sample(missing if learns else sorted(held), chance.randint(1, most))))
    return ("learn" if learns else "forget"), chosen


def changed(
    operation: Literal["learn", "forget"],
    plan: Plan,
    checkpoint: Checkpoint,
    asked: Examples,
    archive: Archive,
    seed: int,
) -> Checkpoint:
    """The checkpoint after the operation, and after the resize that follows it, if one does."""
    name, params = plan.operation(operation)
    chosen, context = strategy.find(operation, name), TrainingContext(CPU, seed, archive)
    after = chosen.run(checkpoint, asked, params_of(chosen, params, quick=plan.quick), context)
    if plan.resize is None:
        return after
    resize = strategy.find("resize", plan.resize)
    return resize.run(after, Examples((), asked.dataset), resize.Params(), context.with_seed_for("resize"))


def params_of(
    chosen: strategy.Strategy, params: Mapping[str, Any], *, quick: bool
) -> strategy.StrategyParams:
    """The params, by default those of the strategy; quick ones train for a fifth of the default steps."""
    schedule = chosen.Params.model_fields.get("schedule")
    if not quick or schedule is None or "schedule" in params:
        return chosen.Params(**params)
    fewer = {"steps": max(1, schedule.default.steps // QUICKER)}
    return chosen.Params(**{**params, "schedule": fewer})


def simple_model(
    plan: Plan,
    checkpoint: Checkpoint,
    critic: Critic,
    archive: Archive,
    dataset: datasets.Dataset,
    seed: int,
    kept: Kept,
) -> Found:
    """What is judged of the simple model of the labels held: one for a seed, a set of labels and a budget."""
    held = tuple(sorted(checkpoint.held))

    def trained() -> Found:
        began = time.perf_counter()
        retrain = Plan("retrain", "", quick=plan.quick)
        model = changed("learn", retrain, archive.start, given(dataset, held), archive, seed)
        seconds = time.perf_counter() - began
        empty = critic.answers(with_slots(model, [NOBODY], dataset.name, "forgotten"), NOBODY, seed)
        unfilled = dict(zip(critic.judge.labels, empty, strict=False))  # the last answer: none of these
        return judged(model, critic, seed=seed) | {"seconds": seconds, "unfilled": unfilled}

    budget = "-quick" if plan.quick else ""
    return kept.once(f"{dataset.name}-simple{budget}-{seed}-{'_'.join(held)}", trained)
