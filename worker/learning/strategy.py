"""What a strategy is: a function from a checkpoint, examples and params to a new checkpoint, found by name.

@strategy("forget", "surrogate", SurrogateParams, source="Heng & Soh 2023")
def forget(checkpoint, examples, params, context) -> Checkpoint: ...
"""

import hashlib
import importlib
import math
import pkgutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, Protocol

import torch
from pydantic import BaseModel, ConfigDict, model_validator
from torch import Tensor

from worker.learning.checkpoint import Checkpoint, Label

Operation = Literal["learn", "forget", "resize"]
Retention = Literal["permanent", "temporary"]
FAMILIES = {"learn": "continual", "forget": "unlearning", "resize": "resizing"}


class Stopped(Exception):
    """The caller asked to stop; nothing of the training is kept."""


class Diverged(Exception):
    """The loss is no longer a finite number; nothing of the training is kept."""


class Batch(NamedTuple):
    images: Tensor  # [batch, pixels] float32 in [0, 1]
    slots: Tensor  # [batch] int64
    latents: Tensor | None = None  # [batch, latent], the codes replayed images were drawn from


class Progress(NamedTuple):
    phase: str
    step: int
    total: int
    loss: float | None  # nats an example


@dataclass(frozen=True)
class Examples:
    """What a job is about: the labels asked for and, where there are any, their real images.

    images: label -> uint8 [n, pixels], 0 black ... 255 white. Empty but where labels are learnt: forget,
        resize and merge are shown none; what they may ask for besides is in the archive.
    """

    labels: tuple[str, ...]
    dataset: str
    images: Mapping[str, Tensor] = field(default_factory=dict)


class Unavailable(Exception):
    """What a strategy asked the archive for cannot be had; the message says what and what to do."""


class Archive(Protocol):
    """What lies outside the checkpoint and only some strategies ask for: real images, earlier versions."""

    def images(self, label: Label) -> Tensor:
        """The real training images of a label the checkpoint knows, uint8 [n, pixels]. Raises Unavailable."""

    def held_out(self, label: Label) -> Tensor:
        """Its real test images, shown to no learner, likewise. For judging only."""

    def newest_without(self, names: Collection[str]) -> Checkpoint:
        """The newest ancestor that never saw any of these labels; the blank model when every version did."""


class NoArchive:
    """The archive of a learner that was given none."""

    def images(self, label: Label) -> Tensor:
        raise Unavailable(f"the real images of {label.name!r} are not at hand here")

    def held_out(self, label: Label) -> Tensor:
        raise Unavailable(f"the real test images of {label.name!r} are not at hand here")

    def newest_without(self, names: Collection[str]) -> Checkpoint:
        raise Unavailable(f"no ancestor that never saw {sorted(names)} is at hand here")


def derive_seed(*key: object) -> int:
    """A seed that is a function of the key alone: 63 bits of the SHA-256 of its parts."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@dataclass(frozen=True)
class TrainingContext:
    """What a strategy works with besides its inputs: a device, randomness, and a line to whoever waits.

    seed: what all chances are keyed by; in a worker, by what is asked for and the network it is asked of.
    asked: by what is asked for alone; None where that is all that `seed` is keyed by. The chances of exact
        forgetting are keyed by it: see `with_seed_from`.
    findings: what a strategy wants to be read in the version's report (a guarantee, a decision and why);
        JSON-ready, and a function of its inputs and seed alone.
    precision: of the matrix products of a training, torch.float32 or torch.bfloat16; everything else, the
        Fisher and the priors with it, is float32.
    """

    device: torch.device
    seed: int
    archive: Archive = field(default_factory=NoArchive)
    findings: dict[str, Any] = field(default_factory=dict)
    precision: torch.dtype = torch.float32
    on_progress: Callable[[Progress], None] = lambda progress: None
    should_stop: Callable[[], bool] = lambda: False
    asked: int | None = None

    def generator(self, purpose: str) -> torch.Generator:
        """A stream of random numbers (on the CPU) for each purpose, a function of the seed alone."""
        return torch.Generator().manual_seed(derive_seed(self.seed, purpose))

    def with_seed_for(self, purpose: str) -> "TrainingContext":
        """The same context with chances of its own."""
        return replace(self, seed=derive_seed(self.seed, purpose))

    def with_seed_from(self, ancestor: Checkpoint | None) -> "TrainingContext":
        """The same context with chances in which no network has a part but the ancestor, where there is one.

        A seed is a channel too: keyed by a network that saw what is to be forgotten, it would make the
        weights drawn from it a function of the forgotten images.
        """
        began = "" if ancestor is None else hashlib.sha256(ancestor.to_bytes()).hexdigest()
        asked = self.seed if self.asked is None else self.asked
        return replace(self, seed=derive_seed(asked, "since", began))

    def step(self, phase: str, step: int, total: int, loss: float | None = None) -> None:
        """Called at every training step. Raises Stopped or Diverged."""
        if self.should_stop():
            raise Stopped(f"stopped in {phase} at step {step} of {total}")
        if loss is not None and not math.isfinite(loss):
            raise Diverged(
                f"the loss became {loss} in {phase} at step {step} of {total}; lower the learning rate"
            )
        self.on_progress(Progress(phase, step, total, loss))


class StrategyParams(BaseModel):
    """Hyper-parameters of a strategy; unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _keep_the_rest(cls, sent: Any) -> Any:
        """Of a group sent in part (`schedule: {steps: 300}`), the rest is this strategy's default."""
        if not isinstance(sent, Mapping):
            return sent
        groups = {
            name: {**one.default.model_dump(), **sent[name]}
            for name, one in cls.model_fields.items()
            if isinstance(one.default, StrategyParams) and isinstance(sent.get(name), Mapping)
        }
        return {**sent, **groups}


Run = Callable[[Checkpoint, Examples, Any, TrainingContext], Checkpoint]


@dataclass(frozen=True)
class Strategy:
    operation: Operation
    name: str
    run: Run
    Params: type[StrategyParams]
    summary: str
    source: str
    policy: str | None = None  # for resize: the direction a request names
    retention: Retention = "permanent"  # of the labels it learns or forgets; temporary ones are isolated
    default: bool = False
    needs_examples: bool = False  # it is given the real images of the labels to learn
    merges_temporary: bool = False  # it learns labels that are temporary until then, and only those


_strategies: dict[tuple[str, str], Strategy] = {}


def strategy(
    operation: Operation,
    name: str,
    params: type[StrategyParams],
    *,
    source: str,
    policy: str | None = None,
    retention: Retention = "permanent",
    default: bool = False,
    needs_examples: bool | None = None,
    merges_temporary: bool = False,
) -> Callable[[Run], Run]:
    """Register a function as the strategy `name`; its docstring's first line is the summary.

    needs_examples: whether the strategy is given the real images of the labels to learn. None: if it learns.
    merges_temporary: whether it makes temporary labels permanent, from the networks they have.
    """
    if needs_examples is None:
        needs_examples = operation == "learn"

    def remember(run: Run) -> Run:
        summary = (run.__doc__ or "").strip().splitlines()[0]
        _strategies[operation, name] = Strategy(
            operation=operation,
            name=name,
            run=run,
            Params=params,
            summary=summary,
            source=source,
            policy=policy,
            retention=retention,
            default=default,
            needs_examples=needs_examples,
            merges_temporary=merges_temporary,
        )
        return run

    return remember


def find(operation: str, name: str) -> Strategy:
    """Raises KeyError with the known names."""
    known: dict[tuple[str, str], Strategy] = {(one.operation, one.name): one for one in all_strategies()}
    if (operation, name) not in known:
        raise KeyError(f"no {operation} strategy {name!r}; known: {sorted(known)}")
    return known[operation, name]


def all_strategies() -> list[Strategy]:
    """Every strategy of the house, in the order operation, name: one file in a family's folder is enough."""
    for family in FAMILIES.values():
        package = importlib.import_module(f"worker.learning.{family}")
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{package.__name__}.{module.name}")
    order = list(FAMILIES)
    return sorted(_strategies.values(), key=lambda one: (order.index(one.operation), one.name))
