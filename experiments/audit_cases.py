"""The cases of `experiments.audit`: make a network with a strategy or by retraining, and measure it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from experiments.running import Cache, OnStep, Result
from experiments.training_setup import CPU, DatasetArchive, examples_of, shortened_schedule
from worker.learning import datasets, strategy
from worker.learning.checkpoint import Checkpoint
from worker.learning.continual.retrain import RetrainParams
from worker.learning.drawing import draw
from worker.learning.judging.audit_measurements import AuditMeasurements, AuditSetup, audit_network
from worker.learning.judging.coverage import Neighbourhoods
from worker.learning.judging.feature_network import FeatureNetwork, load_feature_network
from worker.learning.judging.judge import load_judge
from worker.learning.judging.recovery import Search
from worker.learning.judging.references import measure_control_auc, retrain_reference
from worker.learning.judging.relearning import SLOW_RELEARNING, RelearningSetup
from worker.learning.networks import blank
from worker.learning.strategy import Examples, TrainingContext
from worker.process.devices import compute_reproducibly

REFERENCE = "reference"
"""In place of a strategy: retrain without the label. One of the references is compared like a strategy."""
NOTHING = "nothing"
"""In place of a strategy: change the label's status to forgotten, and no weight."""
SEED = 0
"""Seed of the base and of every strategy."""
MEASUREMENT_SEED = 1000
"""The same for every network, so that all are measured with the same random numbers."""
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "surrogate_noise": ("surrogate", {"surrogate": "uniform_noise"}),
    "selective_amnesia_shortened": (
        "selective_amnesia",
        {"schedule": shortened_schedule(2500), "fisher_examples": 10_000},
    ),
}
"""Name -> the strategy in the catalog and its params."""
REFERENCE_SCHEDULE = RetrainParams().schedule
"""The default schedule of `retrain`. The Fisher information of a reference is not used."""


@dataclass(frozen=True)
class Budget:
    """How much is spent on measuring a network."""

    starts: int
    """Number of starts of the recovery attack."""
    relearning_steps: int
    draws: int
    """Number of draws of each retained label, and of the forgotten label to measure its likeness."""


@dataclass(frozen=True)
class Case:
    """One network to make and measure: what is left of the base when `strategy` forgets `label`."""

    label: str
    strategy: str
    """A strategy of the catalog with or without params, one of VARIANTS, REFERENCE or NOTHING."""
    seed: int

    @property
    def network_name(self) -> str:
        key = sha256(json.dumps(asdict(self)).encode()).hexdigest()[:12]
        return f"{self.label}-{self.strategy.split(':')[0]}-{self.seed}-{key}"

    def name(self, budget: Budget) -> str:
        """Return a name that identifies all that the measurements depend on."""
        return f"{self.network_name}-{sha256(json.dumps(asdict(budget)).encode()).hexdigest()[:6]}"


@dataclass(frozen=True)
class CaseResult:
    """What was measured of a case's network."""

    measurements: AuditMeasurements
    retained: float
    """Open-set accuracy of the labels held, averaged over them."""
    coverage: float
    """Coverage of the labels held, averaged over them."""
    control_auc: float | None
    """AUC of the membership attack on a network that memorised its members; for NOTHING only."""
    tensors_file: Path

    @classmethod
    def of(cls, result: Mapping[str, Any], folder: Path) -> "CaseResult":
        """Return the value that a result of `run_case` stands for. folder: of the cache."""
        return cls(
            AuditMeasurements(**result["measurements"]),
            result["retained"],
            result["coverage"],
            result.get("control_auc"),
            folder / result["tensors"],
        )

    def tensors(self) -> dict[str, Tensor]:
        """Load `embedded`, the label's draws as features of the feature network, and `recovered`.

        `recovered` are images that the recovery attack ended with, uint8 [n, pixels].
        """
        return load_file(self.tensors_file)


@dataclass(frozen=True)
class Procedure:
    """The functions with which an audit trains, forgets and measures. They can be pickled."""

    learn: Callable[[Path], Checkpoint]
    """Folder of the datasets -> the base."""
    forget: Callable[[Checkpoint, Case, Path], Checkpoint]
    """The base, the case and the folder of the datasets -> the case's network."""
    measure: Callable[[Checkpoint, Case, Path, Budget], tuple[Result, dict[str, Tensor]]]
    """The case's network, the case, the folder of the datasets, the budget -> what CaseResult holds."""


def make_base(procedure: Procedure, cache: Cache, data: Path, on_step: OnStep) -> Result:
    """Train the base, unless it is in the cache. There is nothing to measure, so the result is empty."""
    compute_reproducibly(threads=1)
    _load_base(procedure, cache, data)
    on_step("the base")
    return {}


def run_case(
    case: Case, procedure: Procedure, cache: Cache, data: Path, budget: Budget, on_step: OnStep
) -> Result:
    """Make the case's network and measure it. `tensors` is the name of a file in the cache."""
    compute_reproducibly(threads=1)
    base = _load_base(procedure, cache, data)
    network = _load_network(cache, case.network_name, lambda: procedure.forget(base, case, data))
    result, tensors = procedure.measure(network, case, data, budget)
    file = cache.file(f"{case.name(budget)}.safetensors", lambda: save(tensors))
    on_step(f"{case.strategy} forgets {case.label}")
    return result | {"tensors": file.name}


def _load_base(procedure: Procedure, cache: Cache, data: Path) -> Checkpoint:
    return _load_network(cache, "base", lambda: procedure.learn(data))


def _load_network(cache: Cache, name: str, make: Callable[[], Checkpoint]) -> Checkpoint:
    file = cache.file(f"{name}.network", lambda: make().to_bytes())
    return Checkpoint.from_bytes(file.read_bytes())


@lru_cache
def _mnist(data: Path) -> datasets.Dataset:
    return datasets.load("mnist", data)


def _context(data: Path, seed: int) -> TrainingContext:
    start = blank({"architecture": "mlp"}, seed=SEED)
    return TrainingContext(CPU, seed, DatasetArchive(_mnist(data), start))


def learn_all_labels(data: Path) -> Checkpoint:
    """Learn all labels of MNIST with the default strategy."""
    mnist, default = _mnist(data), strategy.find("learn", "replay_ewc")
    start = blank({"architecture": "mlp"}, seed=SEED)
    return default.run(start, examples_of(mnist, mnist.labels), default.Params(), _context(data, SEED))


def forget_label(base: Checkpoint, case: Case, data: Path) -> Checkpoint:
    """Forget the label with the case's strategy, retrain without it, or only change its status."""
    relabelled = base.with_status([case.label], "forgotten")
    if case.strategy == NOTHING:
        return relabelled
    if case.strategy == REFERENCE:
        return retrain_reference(relabelled, case.seed, REFERENCE_SCHEDULE, _context(data, SEED))
    name, params = resolve(case.strategy)
    chosen = strategy.find("forget", name)
    request = Examples((case.label,), "mnist")
    return chosen.run(base, request, chosen.Params.model_validate(params), _context(data, SEED))


def resolve(name: str) -> tuple[str, dict[str, Any]]:
    """Return the strategy in the catalog and the params that a row's name stands for."""
    if name in VARIANTS:
        return VARIANTS[name]
    in_catalog, _, params = name.partition(":")
    return in_catalog, json.loads(params) if params else {}


def measure(
    network: Checkpoint, case: Case, data: Path, budget: Budget
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Attack the network, learn the label again and draw all labels; return what `CaseResult` holds."""
    mnist, feature_network = _mnist(data), load_feature_network("mnist")
    context = TrainingContext(CPU, MEASUREMENT_SEED)
    setup = AuditSetup(
        label=network.label(case.label),
        judge=load_judge("mnist"),
        feature_network=feature_network,
        members=mnist.train[case.label],
        others=mnist.test[case.label],
        draws=1000,
        search=Search(starts=budget.starts),
        relearning=RelearningSetup(
            schedule=SLOW_RELEARNING.model_copy(update={"steps": budget.relearning_steps})
        ),
    )
    measurements, recovered = audit_network(network, setup, draw, context)
    drawn = draw(network, case.label, budget.draws, context.with_seed_for("likeness").seed)
    result = {
        "measurements": measurements.as_json(),
        **_measure_retained(network, feature_network, mnist, budget),
        **asdict(case),
        "parameters": network.parameters,
    }
    if case.strategy == NOTHING:
        result["control_auc"] = measure_control_auc(network, case.label, setup.members, setup.others, context)
    return result, {"embedded": feature_network.embed(drawn), "recovered": recovered}


def _measure_retained(
    network: Checkpoint, feature_network: FeatureNetwork, mnist: datasets.Dataset, budget: Budget
) -> dict[str, float]:
    """Return the open-set accuracy and the coverage of the labels held, averaged over them."""
    judge, right, covered = load_judge("mnist"), [], []
    for name in network.retained:
        drawn = draw(network, name, budget.draws, SEED)
        right.append((judge.classify(drawn) == judge.labels.index(name)).float().mean())
        real = feature_network.embed(mnist.test[name].float() / 255)
        covered.append(Neighbourhoods.of(real).coverage(feature_network.embed(drawn)))
    return {
        "retained": torch.stack(right).mean().item(),
        "coverage": sum(covered) / len(covered),
    }


PROCEDURE = Procedure(learn_all_labels, forget_label, measure)
"""The procedure of the audit. Tests pass a faster one."""
