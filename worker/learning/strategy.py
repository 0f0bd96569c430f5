"""Strategies: their registry, their inputs (checkpoint, examples, params, context) and their errors.

A strategy is a function that turns a checkpoint into a new one:

    @strategy("forget", "surrogate", SurrogateParams, source="Heng & Soh 2023")
    def forget(checkpoint, examples, params, context) -> Checkpoint: ...
"""

import hashlib
import importlib
import math
import pkgutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, model_validator
from torch import Tensor

from reports import Guarantee
from worker.learning.checkpoint import Checkpoint, Label
from worker.learning.machine import machine_kind
from worker.learning.package import NameTaken, Package
from worker.learning.resuming import (
    STAGES_VERSION,
    Environment,
    Journal,
    NoSnapshots,
    Resumable,
    Snapshots,
    State,
)

Operation = Literal["learn", "forget", "resize"]
Retention = Literal["permanent", "temporary"]
T = TypeVar("T")
FOLDERS = {"learn": "continual", "forget": "unlearning", "resize": "resizing"}
"""Operation -> the package that holds its strategies: every module in it is one strategy."""


class Stopped(Exception):
    """The caller wanted the training to stop; its result is discarded."""


class Diverged(Exception):
    """The loss or a weight is no longer a finite number; the result of the training is discarded."""


class Unavailable(Exception):
    """The archive does not have what a strategy needs; the message says what is missing and what to do."""


class NotForArchitecture(ValueError):
    """The strategy does not work on networks of this architecture; the message says what it needs."""


class Batch(NamedTuple):
    """Training examples, real or replayed."""

    images: Tensor  # [batch, pixels] float32 in [0, 1]
    slots: Tensor  # [batch] int64
    latents: Tensor | None = None  # [batch, latent], the z that replayed images were drawn from
    posterior: tuple[Tensor, Tensor] | None = (
        None  # the teacher's mean and logvar of them, [batch, latent] each
    )

    def at(self, rows: Tensor) -> "Batch":
        """Return the examples of these rows."""
        latents = None if self.latents is None else self.latents[rows]
        posterior = None if self.posterior is None else (self.posterior[0][rows], self.posterior[1][rows])
        return Batch(self.images[rows], self.slots[rows], latents, posterior)


class Progress(NamedTuple):
    """How far one phase of a training is: a phase is a gerund, such as `learning`."""

    phase: str
    step: int
    total: int
    loss: float | None  # nats per example


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

        This is the blank model if every version saw one of them. Raises Unavailable.
        """

    def widths_without(self, names: Collection[str]) -> dict[str, list[int]]:
        """Return the `widths` of `newest_without`; its weights need not be there. Raises Unavailable."""


class NoArchive:
    """The archive of a training that has none: every method raises Unavailable."""

    def images(self, label: Label) -> Tensor:
        raise Unavailable(f"the real images of {label.name!r} are not available here")

    def held_out(self, label: Label) -> Tensor:
        raise Unavailable(f"the real test images of {label.name!r} are not available here")

    def newest_without(self, names: Collection[str]) -> Checkpoint:
        raise Unavailable(f"no ancestor that never saw {sorted(names)} is available here")

    def widths_without(self, names: Collection[str]) -> dict[str, list[int]]:
        return self.newest_without(names).widths


def derive_seed(*key: object) -> int:
    """Return a 63-bit seed, a hash (SHA-256) of the parts of the key."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@dataclass
class Outcome:
    """What a strategy reports about its result, besides the checkpoint, for the version's report.

    guarantee: of a forget. It is exact if the new weights were computed without the data of the forgotten
        labels and without any weight that was trained on it.
    findings: decisions and their reasons, as JSON-ready values that depend on the inputs and the seed alone.
    """

    guarantee: Guarantee = "approximate"
    findings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainingContext:
    """What a strategy needs to run: a device, random streams, an archive and progress callbacks.

    seed: determines every random number. In a worker it is derived from the request and from the network that
        the request is about.
    request_seed: a seed derived from the request alone, which exact forgetting needs: see `with_seed_from`.
        None if `seed` is that already.
    outcome: what the strategy reports about its result. Contexts made from this one share it.
    precision: of the matrix products during training, and when replay is drawn for it, torch.float32 or
        torch.bfloat16. Everything else, the Fisher information and the priors included, is computed in
        float32.
    snapshots: where the state of the computation is saved from time to time, and read by a later attempt.
    code: the version of the code; a snapshot that another one saved is ignored.
    journal: the stages that the computation finished. Contexts made from this one share it.
    """

    device: torch.device
    seed: int
    archive: Archive = field(default_factory=NoArchive)
    outcome: Outcome = field(default_factory=Outcome)
    precision: torch.dtype = torch.float32
    on_progress: Callable[[Progress], None] = lambda progress: None
    should_stop: Callable[[], bool] = lambda: False
    request_seed: int | None = None
    snapshots: Snapshots = field(default_factory=NoSnapshots)
    code: str = ""
    journal: Journal = None  # type: ignore[assignment]  # made from the snapshots, unless it is given

    def __post_init__(self) -> None:
        if self.journal is None:
            object.__setattr__(self, "journal", Journal(self.snapshots))

    @property
    def findings(self) -> dict[str, Any]:
        """The findings of the outcome, a dictionary that strategies add to."""
        return self.outcome.findings

    def generator(self, purpose: str) -> torch.Generator:
        """Return a new CPU random generator whose stream depends on the seed and the purpose alone."""
        return self.journal.track(torch.Generator().manual_seed(derive_seed(self.seed, purpose)))

    def with_seed_for(self, purpose: str) -> "TrainingContext":
        """Return this context with a seed derived from its own seed and the purpose."""
        return replace(self, seed=derive_seed(self.seed, purpose))

    def with_seed_from(self, ancestor: Checkpoint | None) -> "TrainingContext":
        """Return this context with a seed derived from the request and the ancestor (if any) alone.

        Exact forgetting needs this. A seed derived from a network that saw the forgotten images would make
        the new weights a function of those images.
        """
        digest = "" if ancestor is None else hashlib.sha256(ancestor.to_bytes()).hexdigest()
        request_seed = self.seed if self.request_seed is None else self.request_seed
        return replace(self, seed=derive_seed(request_seed, "since", digest))

    def resume(self, inputs: Callable[[], Iterable[object]]) -> None:
        """Skip what an earlier attempt at this computation finished, if a snapshot of it was saved.

        inputs: returns all that the result depends on, besides the code and the seeds: bytes, or values whose
        repr says everything. A snapshot of a computation with other inputs is ignored; one of another release
        is continued, so that a job which is longer than the time between two releases ends. It is called
        when there is a snapshot to read or to save, so that a short computation does without.
        """

        @cache
        def identity() -> str:
            digest = hashlib.sha256()
            for one in (STAGES_VERSION, self.seed, self.request_seed, *inputs()):
                part = one if isinstance(one, bytes) else repr(one).encode()
                digest.update(len(part).to_bytes(8, "big") + part)
            return digest.hexdigest()

        self.journal.open(identity, Environment(self.code, machine_kind(self.device, self.precision)))

    def loop(
        self,
        phase: str,
        steps: range,
        parts: Sequence[Resumable],
        *,
        scratch: Sequence[Resumable] = (),
    ) -> AbstractContextManager[Iterator[int]]:
        """Give the steps of a loop that can be resumed: `with context.loop(...) as steps: for step in steps`.

        parts: everything that the loop changes, but random generators, which are saved in any case. scratch:
        what only the loop itself uses from step to step, such as the moments of the optimiser.
        Raises Stopped before a step if the caller wants the training to stop.
        """
        return self.journal.loop(
            phase, steps, parts, scratch, lambda step: self._pause(phase, step, steps.stop)
        )

    def once(self, name: str, compute: Callable[[], State]) -> State:
        """Return what `compute` returns: tensors and JSON values. A later attempt does not compute it again.

        For a computation of a second or more; what it changes besides random generators is not saved.
        """
        return self.journal.once(name, compute)

    def aside(self, name: str, compute: Callable[[], T]) -> T:
        """Return what `compute` returns, for a result that the caller stores where a later attempt finds it.

        An attempt that finds the result leaves this out; one that was interrupted within it resumes there.
        """
        return self.journal.aside(name, compute)

    def step(self, phase: str, step: int, total: int, loss: float | None = None) -> None:
        """Report the progress of a phase, with its loss in nats per example.

        Raises Diverged if the loss is not finite, and Stopped if the caller wants the training to stop.
        Within a loop, Stopped is raised at the beginning of its next step, when a snapshot can be saved.
        """
        if not self.journal.is_in_loop:
            self._pause(phase, step, total)
        if loss is not None and not math.isfinite(loss):
            raise Diverged(
                f"the loss became {loss} while {phase}, at step {step} of {total}; lower the learning rate"
            )
        self.on_progress(Progress(phase, step, total, loss))

    def _pause(self, phase: str, step: int, total: int) -> None:
        """Save a snapshot if one is due. Raises Stopped if the caller wants the training to stop."""
        stops = self.should_stop()  # read first: at a shutdown, a snapshot is due from now on
        self.journal.save_if_due()
        if stops:
            raise Stopped(f"stopped while {phase}, at step {step} of {total}")


class StrategyParams(BaseModel):
    """Hyperparameters of a strategy; unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _complete_groups(cls, sent: Any) -> Any:
        """Complete a group that was sent in part (`schedule: {steps: 300}`) with this strategy's defaults."""
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
    """A registered strategy: its function, its params, and what the API says about it."""

    operation: Operation
    name: str
    run: Run
    Params: type[StrategyParams]
    summary: str
    source: str
    policy: str | None = None  # of a resize: prune, expand, search or auto, as a request names it
    retention: Retention = "permanent"  # of the labels that it learns or forgets
    default: bool = False
    needs_examples: bool = False  # whether it gets the real images of the labels to learn
    merges_temporary: bool = False  # whether it makes temporary labels permanent
    guarantee: Guarantee | None = None  # of a forget: what it guarantees of its result
    architectures: tuple[str, ...] | None = None  # those of the networks that it works on; None means all
    package: Package | None = None  # the package that brings it; None if it is built in


_declared: dict[Run, Strategy] = {}
_added: dict[tuple[str, str], Strategy] = {}


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
    guarantee: Guarantee = "approximate",
    architectures: tuple[str, ...] | None = None,
) -> Callable[[Run], Run]:
    """Declare the decorated function as the strategy `name`; its docstring's first line is the summary.

    needs_examples: whether the strategy gets the real images of the labels to learn. None means: if its
        operation is learn.
    merges_temporary: whether it makes temporary labels permanent, from the isolated networks they have.
    guarantee: of a forget. An exact strategy can also be run for labels that are forgotten already.
    architectures: of the networks that it works on; None means all. A request for another is refused.
    """
    if needs_examples is None:
        needs_examples = operation == "learn"

    def register(run: Run) -> Run:
        summary = (run.__doc__ or "").strip().splitlines()[0]
        _declared[run] = Strategy(
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
            guarantee=guarantee if operation == "forget" else None,
            architectures=architectures,
        )
        return run

    return register


def check_architecture(chosen: Strategy, checkpoint: Checkpoint) -> None:
    """Raise NotForArchitecture if the strategy does not work on the checkpoint's network."""
    architecture = checkpoint.spec.architecture
    if chosen.architectures is not None and architecture not in chosen.architectures:
        raise NotForArchitecture(
            f"the {chosen.operation} strategy {chosen.name!r} works on networks of the architecture "
            f"{' or '.join(chosen.architectures)}, and this model has {architecture}; use another strategy"
        )


def declaration_of(run: object) -> Strategy | None:
    """Return what the decorator `strategy` declared of this function; None if it was not decorated."""
    return _declared.get(run) if callable(run) else None


def add(one: Strategy) -> None:
    """Add the strategy of another package. Raises NameTaken."""
    taken = next(
        (each for each in all_strategies() if (each.operation, each.name) == (one.operation, one.name)), None
    )
    if taken is not None:
        by = "is built in" if taken.package is None else f"comes from the package {taken.package.name}"
        raise NameTaken(f"another {one.operation} strategy called {one.name!r} {by}")
    _added[one.operation, one.name] = one


def find(operation: str, name: str) -> Strategy:
    """Return a strategy by its operation and name. Raises KeyError, which lists the known ones."""
    known: dict[tuple[str, str], Strategy] = {(one.operation, one.name): one for one in all_strategies()}
    if (operation, name) not in known:
        raise KeyError(f"no {operation} strategy {name!r}; known: {sorted(known)}")
    return known[operation, name]


def all_strategies() -> list[Strategy]:
    """Return the built-in strategies, sorted by operation and name, then those of other packages."""
    return [*built_in_strategies(), *_added.values()]


def built_in_strategies() -> list[Strategy]:
    """Return the strategies of this project, sorted by operation and name.

    Imports every module in the operations' folders, so a new file there is enough to add a strategy."""
    modules = set()
    for folder in FOLDERS.values():
        package = importlib.import_module(f"worker.learning.{folder}")
        for module in pkgutil.iter_modules(package.__path__):
            modules.add(importlib.import_module(f"{package.__name__}.{module.name}").__name__)
    order = list(FOLDERS)
    built_in = [one for run, one in _declared.items() if run.__module__ in modules]
    return sorted(built_in, key=lambda one: (order.index(one.operation), one.name))
