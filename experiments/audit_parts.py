"""The parts of `experiments.audit`: a network made by a strategy or retrained, and what it shows."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from experiments.running import Found, Tell
from experiments.strategies import CPU, Archive, given
from experiments.table1 import shortened
from service import durable
from worker.learning import datasets, strategy
from worker.learning.checkpoint import Checkpoint
from worker.learning.continual.retrain import RetrainParams
from worker.learning.drawing import draw
from worker.learning.judging.audit_measurements import Exam, traces
from worker.learning.judging.coverage import Neighbourhoods
from worker.learning.judging.feature_network import FeatureNetwork, load_feature_network
from worker.learning.judging.judge import load_judge
from worker.learning.judging.recovery import Search
from worker.learning.judging.references import control_auc, retrained
from worker.learning.judging.relearning import SLOW, Lesson
from worker.learning.networks import blank
from worker.learning.strategy import Examples, TrainingContext
from worker.process.devices import compute_reproducibly

SEED = 0  # of the base and of every strategy
EXAM_SEED = 1000  # the same chances for every network that is examined
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "surrogate_noise": ("surrogate", {"surrogate": "uniform_noise"}),
    "selective_amnesia_shortened": (
        "selective_amnesia",
        {"schedule": shortened(2500), "fisher_examples": 10_000},
    ),
}
REFERENCE = RetrainParams(fisher_examples=1)  # its schedule is that of `retrain`; a Fisher is not asked for


@dataclass(frozen=True)
class Effort:
    """How hard it is looked."""

    starts: int
    relearning_steps: int
    draws: int  # a label, of those retained; and of the forgotten one, for likeness

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Part:
    """One network to make and examine: `strategy` forgets `label`."""

    label: str
    strategy: str  # or "reference" or "nothing"
    seed: int

    def name(self, effort: Effort) -> str:
        """What its findings are kept under: all that they depend on."""
        looked = sha256(json.dumps(effort.as_json()).encode()).hexdigest()[:6]
        return f"{self.network}-{looked}"

    @property
    def network(self) -> str:
        key = sha256(json.dumps(asdict(self)).encode()).hexdigest()[:12]
        return f"{self.label}-{self.strategy.split(':')[0]}-{self.seed}-{key}"


def base_of(folder: Path, data: Path, tell: Tell = lambda what: None) -> Found:
    """Make the base in `folder`, where it is not there yet. It has no findings of its own."""
    compute_reproducibly(threads=1)
    _network(folder / "base.network", lambda: _learnt(data))
    tell("the base")
    return {}


def examined(part: Part, folder: Path, data: Path, effort: Effort, tell: Tell) -> Found:
    """The part's findings. Its network and what `tensors_of` reads stay in `folder`, where the base is."""
    compute_reproducibly(threads=1)
    base = _network(folder / "base.network", lambda: _learnt(data))
    network = _network(folder / f"{part.network}.network", lambda: _without(base, part, data))
    found, tensors = _examined(network, part, data, effort)
    save_file(tensors, _tensors(folder, part, effort))
    tell(f"{part.strategy} forgets {part.label}")
    return found


def with_tensors(found: Found, part: Part, folder: Path, effort: Effort) -> Found:
    """The findings of `examined`, and where `tensors_of` finds the rest of them."""
    return found | {"tensors": str(_tensors(folder, part, effort))}


def tensors_of(found: Found) -> dict[str, Tensor]:
    """`embedded`: the label's draws as the feature network sees them; `recovered`: images the attack ended with."""
    return load_file(found["tensors"])


def _tensors(folder: Path, part: Part, effort: Effort) -> Path:
    return folder / f"{part.name(effort)}.safetensors"


def _network(file: Path, make: Callable[[], Checkpoint]) -> Checkpoint:
    if not file.is_file():
        durable.write(file, make().to_bytes())
    return Checkpoint.from_bytes(file.read_bytes())


@lru_cache
def _mnist(data: Path) -> datasets.Dataset:
    return datasets.load("mnist", data)


def _context(data: Path, seed: int) -> TrainingContext:
    start = blank({"architecture": "mlp"}, seed=SEED)
    return TrainingContext(CPU, seed, Archive(_mnist(data), start))


def _learnt(data: Path) -> Checkpoint:
    """All labels, learnt by the default strategy."""
    mnist, default = _mnist(data), strategy.find("learn", "replay_ewc")
    start = blank({"architecture": "mlp"}, seed=SEED)
    return default.run(start, given(mnist, mnist.labels), default.Params(), _context(data, SEED))


def _without(base: Checkpoint, part: Part, data: Path) -> Checkpoint:
    """The base after the strategy made it forget; or what never knew; or the base with a new status."""
    struck = base.with_status([part.label], "forgotten")
    if part.strategy == "nothing":
        return struck
    if part.strategy == "reference":
        return retrained(struck, part.seed, REFERENCE, _context(data, SEED))
    name, params = named(part.strategy)
    chosen = strategy.find("forget", name)
    asked = Examples((part.label,), "mnist")
    return chosen.run(base, asked, chosen.Params.model_validate(params), _context(data, SEED))


def named(strategy: str) -> tuple[str, dict[str, Any]]:
    """The catalog's name of a row's strategy, and the params it carries."""
    if strategy in VARIANTS:
        return VARIANTS[strategy]
    name, _, sent = strategy.partition(":")
    return name, json.loads(sent) if sent else {}


def _examined(
    network: Checkpoint, part: Part, data: Path, effort: Effort
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    mnist, feature_network, context = (
        _mnist(data),
        load_feature_network("mnist"),
        TrainingContext(CPU, 1000),
    )  # the same chances for all
    exam = Exam(
        label=network.label(part.label),
        judge=load_judge("mnist"),
        feature_network=feature_network,
        members=mnist.train[part.label],
        others=mnist.test[part.label],
        draws=1000,
        search=Search(starts=effort.starts),
        lesson=Lesson(schedule=SLOW.model_copy(update={"steps": effort.relearning_steps})),
    )
    shown, recovered = traces(network, exam, draw, context)
    embedded = feature_network.embedded(
        draw(network, part.label, effort.draws, context.with_seed_for("likeness").seed)
    )
    found = {"traces": shown.as_json(), **_retained(network, feature_network, mnist, effort), **asdict(part)}
    found |= {"parameters": network.parameters}
    if part.strategy == "nothing":
        found["control_auc"] = control_auc(network, part.label, exam.members, exam.others, context)
    return found, {"embedded": embedded, "recovered": recovered}


def _retained(
    network: Checkpoint, feature_network: FeatureNetwork, mnist: datasets.Dataset, effort: Effort
) -> dict[str, float]:
    """Open-set accuracy and coverage of the labels held, the means over them."""
    judge, right, covered = load_judge("mnist"), [], []
    for name in network.held:
        drawn = draw(network, name, effort.draws, SEED)
        right.append((judge.classify(drawn) == judge.labels.index(name)).float().mean())
        real = feature_network.embedded(mnist.test[name].float() / 255)
        covered.append(Neighbourhoods.of(real).coverage(feature_network.embedded(drawn)))
    return {
        "retained": torch.stack(right).mean().item(),
        "coverage": sum(covered) / len(covered),
    }
