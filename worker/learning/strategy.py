"""What a strategy is, what it is given, and how it is found by name.

A strategy is a function that turns a checkpoint into a new one:

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

from reports import Guarantee
from worker.learning.checkpoint import Checkpoint, Label

Operation = Literal["learn", "forget", "resize"]
Retention = Literal["permanent", "temporary"]
FOLDERS = {"learn": "continual", "forget": "unlearning", "resize": "resizing"}
"""Operation -> the package that holds its strategies: every module in it is one strategy."""


class Stopped(Exception):
    """The caller wanted the training to stop; its result is dropped."""


class Diverged(Exception):
    """The loss or a weight is no longer a finite number; the result of the training is dropped."""


class Unavailable(Exception):
    """The archive cannot give what a strategy needs; the message says what is missing and what to do."""


class Batch(NamedTuple):
    images: Tensor  # [batch, pixels] float32 in [0, 1]
    slots: Tensor  # [batch] int64
    latents: Tensor | None = None  # [batch, latent], the z that replayed images were drawn from


class Progress(NamedTuple):
    phase: str
    step: int
    total: int
    loss: float | None  # nats an example


@dataclass(frozen=True)
class Examples:
    """The labels that a request names and, where they are learnt, their real images.

    images: label -> uint8 [n, pixels], 0 black ... 255 white. Empty for forget, resize and merge: what these
        need besides the checkpoint, they read from the archive.
    """

    labels: tuple[str, ...]
    dataset: str
    images: Mapping[str, Tensor] = field(default_factory=dict)


class Archive(Protocol):
    """Data outside the checkpoint that only some strategies read: real images and earlier versions."""

    def images(self, label: Label) -> Tensor:
        """Return a label's real training images, uint8 [n, pixels]. Raises Unavailable."""

    def held_out(self, label: Label) -> Tensor:
        """Return a label's real test images, uint8 [n, pixels]. Only for judging. Raises Unavailable."""

    def newest_without(self, names: Collection[str]) -> Checkpoint:
        """Return the newest ancestor that never saw any of these labels.

        That is the blank model if every version saw one of them. Raises Unavailable.
        """


class NoArchive:
    """The archive of a training that was given none: every question raises Unavailable."""

    def images(self, label: Label) -> Tensor:
        raise Unavailable(f"the real images of {label.name!r} are not available here")

    def held_out(self, label: Label) -> Tensor:
        raise Unavailable(f"the real test images of {label.name!r} are not available here")

    def newest_without(self, names: Collection[str]) -> Checkpoint:
        raise Unavailable(f"no ancestor that never saw {sorted(names)} is available here")


def derive_seed(*key: object) -> int:
    """Return a seed that depends on the key alone: 63 bits of the SHA-256 of its parts."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@dataclass
class Outcome:
    """What a strategy states about its result, for the version's report.

    guarantee: of a forget: exact if, by the way they were made, the weights depend on no forgotten label.
    findings: decisions and their reasons. JSON-ready, and a function of the strategy's inputs and seed alone.
    """

    guarantee: Guarantee = "approximate"
    findings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainingContext:
    """What a strategy works with besides its inputs: a device, random streams, and progress callbacks.

    seed: decides every random number. In a worker it is derived from the request and from the network that
        the request is about.
    request_seed: the same, but derived from the request alone; None where `seed` is already that. Exact
        forgetting takes its random numbers from it: see `with_seed_from`.
    outcome: what the strategy states about its result. Contexts made from this one share it.
    precision: of the matrix products during training, torch.float32 or torch.bfloat16. Everything else, the
        Fisher information and the priors included, is computed in float32.
    """

    device: torch.device
    seed: int
    archive: Archive = field(default_factory=NoArchive)
    outcome: Outcome = field(default_factory=Outcome)
    precision: torch.dtype = torch.float32
    on_progress: Callable[[Progress], None] = lambda progress: None
    should_stop: Callable[[], bool] = lambda: False
    request_seed: int | None = None

    @property
    def findings(self) -> dict[str, Any]:
        """The findings of the outcome, which a strategy adds to."""
        return self.outcome.findings

    def generator(self, purpose: str) -> torch.Generator:
        """Return a new random stream (on the CPU) that depends on the seed and the purpose alone."""
        return torch.Generator().manual_seed(derive_seed(self.seed, purpose))

    def with_seed_for(self, purpose: str) -> "TrainingContext":
        """Return the same context with a seed derived for one purpose."""
        return replace(self, seed=derive_seed(self.seed, purpose))

    def with_seed_from(self, ancestor: Checkpoint | None) -> "TrainingContext":
        """Return the same context with a seed derived from the request and the ancestor (if any) alone.

        Exact forgetting needs this. A seed derived from a network that saw the forgotten images would make
        the new weights a function of those images.
        """
        digest = "" if ancestor is None else hashlib.sha256(ancestor.to_bytes()).hexdigest()
        request_seed = self.seed if self.request_seed is None else self.request_seed
        return replace(self, seed=derive_seed(request_seed, "since", digest))

    def step(self, phase: str, step: int, total: int, loss: float | None = None) -> None:
        """Report a training step, with its loss in nats an example.

        Raises Stopped if the caller wants the training to stop, and Diverged if the loss is not finite.
        """
        if self.should_stop():
            raise Stopped(f"stopped while {phase}, at step {step} of {total}")
        if loss is not None and not math.isfinite(loss):
            raise Diverged(
                f"the loss became {loss} while {phase}, at step {step} of {total}; lower the learning rate"
            )
        self.on_progress(Progress(phase, step, total, loss))


class StrategyParams(BaseModel):
    """Hyper-parameters of a strategy; unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _complete_groups(cls, sent: Any) -> Any:
        """Fill a group that was sent in part (`schedule: {steps: 300}`) with this strategy's defaults."""
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
    policy: str | None = None  # the direction of a resize, as a request names it
    retention: Retention = "permanent"  # of the labels that it learns or forgets
    default: bool = False
    needs_examples: bool = False  # whether it is given the real images of the labels to learn
    merges_temporary: bool = False  # whether it makes temporary labels permanent, and works on nothing else


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
    """Register the decorated function as the strategy `name`; its docstring's first line is the summary.

    needs_examples: whether the strategy is given the real images of the labels to learn. None: if it learns.
    merges_temporary: whether it makes temporary labels permanent, from the isolated networks they have.
    """
    if needs_examples is None:
        needs_examples = operation == "learn"

    def register(run: Run) -> Run:
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

    return register


def find(operation: str, name: str) -> Strategy:
    """Return the strategy of that name. Raises KeyError with the names there are."""
    known: dict[tuple[str, str], Strategy] = {(one.operation, one.name): one for one in all_strategies()}
    if (operation, name) not in known:
        raise KeyError(f"no {operation} strategy {name!r}; known: {sorted(known)}")
    return known[operation, name]


def all_strategies() -> list[Strategy]:
    """Return every strategy, by operation and name. A file in an operation's folder is enough to add one."""
    for folder in FOLDERS.values():
        package = importlib.import_module(f"worker.learning.{folder}")
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{package.__name__}.{module.name}")
    order = list(FOLDERS)
    return sorted(_strategies.values(), key=lambda one: (order.index(one.operation), one.name))
