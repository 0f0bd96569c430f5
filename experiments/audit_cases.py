"""The cases of `experiments.audit`: make a network with a strategy or as a reference, and measure it."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from experiments.audit_histories import History, Setting, history_of, learn_history
from experiments.running import Cache, OnStep, Result
from experiments.training_setup import shortened_schedule
from worker.learning import datasets
from worker.learning.checkpoint import Checkpoint
from worker.learning.continual.retrain import RetrainParams
from worker.learning.drawing import draw
from worker.learning.judging.alignment import misalignment
from worker.learning.judging.attack_measurements import Attacks, measure_attacks
from worker.learning.judging.audit_measurements import AuditMeasurements, AuditSetup, audit_network
from worker.learning.judging.coverage import Neighbourhoods
from worker.learning.judging.feature_network import FeatureNetwork
from worker.learning.judging.judge import Judge
from worker.learning.judging.matched_references import Job, run_job
from worker.learning.judging.recovery import Search
from worker.learning.judging.references import measure_control_auc, retrain_reference
from worker.learning.judging.relearning import SLOW_RELEARNING, RelearningSetup
from worker.learning.strategy import TrainingContext
from worker.process.devices import compute_reproducibly

REFERENCE = "reference"
"""In place of a strategy: retrain without the label. One of the references is compared like a strategy."""
NOTHING = "nothing"
"""In place of a strategy: change the label's status to forgotten, and no weight."""
MATCHED = "matched reference of "
"""Before a strategy: learn a stand-in in the label's place, and forget it with this strategy."""
REFERENCE_SEEDS = 100
"""The seed of the first reference: the networks that references are compared with have smaller ones."""
MEASUREMENT_SEED = 1000
"""The same for every network, so that all are measured with the same random numbers."""
ALIGNMENT_DRAWS = 200
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "surrogate_noise": ("surrogate", {"surrogate": "uniform_noise", "surrogate_share": 0.5}),
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
    """A strategy of the catalog with or without params, one of VARIANTS, REFERENCE, NOTHING, or MATCHED with
    one of the strategies after it."""
    seed: int
    """Of the base and of the strategy; the number of a reference."""

    @property
    def network_name(self) -> str:
        key = sha256(json.dumps(asdict(self)).encode()).hexdigest()[:12]
        return f"{self.label}-{self.strategy.split(':')[0].replace(' ', '-')}-{self.seed}-{key}"

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
    attacks: Mapping[str, float] = field(default_factory=dict)
    """The figures of `measure_attacks`."""

    @classmethod
    def of(cls, result: Mapping[str, Any], folder: Path) -> "CaseResult":
        """Return the value that a result of `run_case` stands for. folder: of the cache."""
        return cls(
            AuditMeasurements(**result["measurements"]),
            result["retained"],
            result["coverage"],
            result.get("control_auc"),
            folder / result["tensors"],
            result.get("attacks", {}),
        )

    def with_figures(self, figures: Mapping[str, float]) -> "CaseResult":
        """Return the result with more figures of attacks."""
        return replace(self, attacks={**self.attacks, **figures})

    def tensors(self) -> dict[str, Tensor]:
        """Load `embedded`, the label's draws as features of the feature network, and `recovered`.

        `recovered` are images that the recovery attack ended with, uint8 [n, pixels].
        """
        return load_file(self.tensors_file)


@dataclass(frozen=True)
class Procedure:
    """The functions with which an audit trains, forgets and measures. They can be pickled."""

    learn: Callable[[History, Setting, int, Cache], Checkpoint]
    """The history, the dataset, the seed and the cache -> the base."""
    make: Callable[[Case, Setting, Cache], Checkpoint]
    """The case, the dataset and the cache, which has the bases -> the case's network."""
    measure: Callable[[Checkpoint, Case, Setting, Budget, Cache], tuple[Result, dict[str, Tensor]]]
    """The case's network, the case, the dataset, the budget, the cache -> what CaseResult holds."""


def make_base(
    procedure: Procedure, history: History, seed: int, setting: Setting, cache: Cache, on_step: OnStep
) -> Result:
    """Train a base, unless it is in the cache. There is nothing to measure, so the result is empty."""
    compute_reproducibly(threads=1)
    procedure.learn(history, setting, seed, cache)
    on_step("the base")
    return {}


def train_classifiers(setting: Setting, cache: Cache, on_step: OnStep) -> Result:
    """Train the classifiers of the dataset, unless they are committed or in the cache."""
    compute_reproducibly(threads=1)
    setting.judge(cache)
    setting.feature_network(cache)
    on_step("the classifiers")
    return {}


def run_case(
    case: Case, procedure: Procedure, setting: Setting, cache: Cache, budget: Budget, on_step: OnStep
) -> Result:
    """Make the case's network and measure it. `tensors` is the name of a file in the cache."""
    compute_reproducibly(threads=1)
    network = _load_network(case, setting, cache, lambda: procedure.make(case, setting, cache))
    result, tensors = procedure.measure(network, case, setting, budget, cache)
    file = cache.file(f"{setting.name}-{case.name(budget)}.safetensors", lambda: save(tensors))
    on_step(f"{case.strategy} forgets {case.label}")
    return result | {"tensors": file.name}


def run_alignment(
    pairs: Sequence[tuple[Case, Case]], setting: Setting, cache: Cache, on_step: OnStep
) -> Result:
    """Measure the misalignment of pairs of networks that forgot the same label, in nats.

    Returns the mean over the retained labels and that of the label itself, by the names of both networks.
    """
    compute_reproducibly(threads=1)
    context, label = TrainingContext(torch.device("cpu"), MEASUREMENT_SEED), pairs[0][0].label
    cases = {case for pair in pairs for case in pair}
    networks = {case: _load_network(case, setting, cache, _not_made) for case in cases}
    drawn: dict[tuple[int, str], Tensor] = {}

    def draw_once(checkpoint: Checkpoint, name: str, n: int, seed: int) -> Tensor:
        key = id(checkpoint), name
        if key not in drawn:
            drawn[key] = draw(checkpoint, name, n, seed)
        return drawn[key]

    found: Result = {}
    for one, other in pairs:
        labels = [label, *networks[one].retained]
        nats = dict(
            misalignment(
                networks[one], networks[other], labels, draws=ALIGNMENT_DRAWS, draw=draw_once, context=context
            )
        )
        of_label = nats.pop(label)
        found[f"{one.network_name} {other.network_name}"] = {
            "retained": sum(nats.values()) / len(nats),
            "label": of_label,
        }
    on_step(f"alignment on {label}")
    return found


def _load_network(case: Case, setting: Setting, cache: Cache, make: Callable[[], Checkpoint]) -> Checkpoint:
    file = cache.file(f"{setting.name}-{case.network_name}.network", lambda: make().to_bytes())
    return Checkpoint.from_bytes(file.read_bytes())


def _not_made() -> Checkpoint:
    raise AssertionError("the alignment is measured when all networks have been made")


def make_network(case: Case, setting: Setting, cache: Cache) -> Checkpoint:
    """Forget the label with the case's strategy, make a reference, or only change the label's status."""
    history = history_of(case.label, setting.load().labels)
    if case.strategy.startswith(MATCHED):
        seed, stand_in = REFERENCE_SEEDS + case.seed, history.stand_in(case.label, case.seed)
        learned = learn_history(history, setting, seed, cache, stand_in)
        forgetting = case.strategy.removeprefix(MATCHED)
        return _forget(learned, case.label, forgetting, setting, setting.context(seed, stand_in))
    if case.strategy == REFERENCE:
        relabelled = learn_history(history, setting, 0, cache).with_status([case.label], "forgotten")
        return retrain_reference(
            relabelled, case.seed, REFERENCE_SCHEDULE, setting.context(REFERENCE_SEEDS + case.seed)
        )
    base = learn_history(history, setting, case.seed, cache)
    if case.strategy == NOTHING:
        return base.with_status([case.label], "forgotten")
    return _forget(base, case.label, case.strategy, setting, setting.context(case.seed))


def _forget(
    checkpoint: Checkpoint, label: str, name: str, setting: Setting, context: TrainingContext
) -> Checkpoint:
    in_catalog, params = resolve(name)
    job = Job("forget", (label,), in_catalog, params)
    return run_job(checkpoint, job, setting.dataset, {}, context)


def resolve(name: str) -> tuple[str, dict[str, Any]]:
    """Return the strategy in the catalog and the params that a row's name stands for."""
    if name in VARIANTS:
        return VARIANTS[name]
    in_catalog, _, params = name.partition(":")
    return in_catalog, json.loads(params) if params else {}


def measure(
    network: Checkpoint, case: Case, setting: Setting, budget: Budget, cache: Cache
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Attack the network, learn the label again and draw all labels; return what `CaseResult` holds."""
    dataset, judge, feature_network = setting.load(), setting.judge(cache), setting.feature_network(cache)
    context = TrainingContext(torch.device("cpu"), MEASUREMENT_SEED)
    setup = AuditSetup(
        label=network.label(case.label),
        judge=judge,
        feature_network=feature_network,
        members=dataset.train[case.label],
        others=dataset.test[case.label],
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
        "attacks": measure_attacks(network, setup, _attacks(network, setting), draw, context),
        **_measure_retained(network, judge, feature_network, dataset, budget),
        **asdict(case),
        "parameters": network.parameters,
    }
    if case.strategy == NOTHING:
        result["control_auc"] = measure_control_auc(network, case.label, setup.members, setup.others, context)
    return result, {"embedded": feature_network.embed(drawn), "recovered": recovered}


def _attacks(network: Checkpoint, setting: Setting) -> Attacks:
    auxiliary = setting.load_auxiliary()
    return Attacks(
        {
            "retained": {name: setting.load().train[name] for name in network.retained},
            "other_dataset": {f"{auxiliary.name} {name}": one for name, one in auxiliary.train.items()},
        }
    )


def _measure_retained(
    network: Checkpoint,
    judge: Judge,
    feature_network: FeatureNetwork,
    dataset: datasets.Dataset,
    budget: Budget,
) -> dict[str, float]:
    """Return the open-set accuracy and the coverage of the labels held, averaged over them."""
    right, covered = [], []
    for name in network.retained:
        drawn = draw(network, name, budget.draws, 0)
        right.append((judge.classify(drawn) == judge.labels.index(name)).float().mean())
        real = feature_network.embed(dataset.test[name].float() / 255)
        covered.append(Neighbourhoods.of(real).coverage(feature_network.embed(drawn)))
    return {
        "retained": torch.stack(right).mean().item(),
        "coverage": sum(covered) / len(covered),
    }


PROCEDURE = Procedure(learn_history, make_network, measure)
"""The procedure of the audit. Tests pass a faster one."""
