"""Resume a computation that was interrupted: skip the stages that it had finished, go on within the last one.

A strategy and a full report are functions of their inputs. An attempt that resumes runs them again from the
start, and everything long in them is a stage: a loop (`Journal.loop`), such as a training, or a computation
that returns a value (`Journal.once`). A finished stage is not computed again: what it changed is restored
from the snapshot, and so are the random generators that it used. A loop that was interrupted goes on at the
step at which the snapshot was saved. What lies between the stages is computed again, so it must be short.

Stages are found by their order, and checked by name. They must not depend on anything but the inputs.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from worker.learning.snapshot_file import NotASnapshot, read_snapshot, write_snapshot

log = logging.getLogger(__name__)

T = TypeVar("T")

State = dict[str, Any]
"""Tensors and JSON values, in nested dictionaries and lists."""

STAGES_VERSION = 2
"""Increase it with a change after which a snapshot of the release before must not be continued: if a stage of
the same name, with tensors of the same shapes, has come to mean something else. Then jobs start anew once."""


class Environment(NamedTuple):
    """What computed a part of a result, besides its inputs."""

    code: str
    """The version of the code."""
    machine: str
    """The kind of machine (machine.py)."""


class Snapshots(Protocol):
    """Where the snapshots of one job are kept, each replacing the one before."""

    def load(self) -> bytes | None:
        """Return what an earlier attempt at the job saved last; None if there is nothing."""

    def save(self, data: bytes) -> None:
        """Replace the snapshot. It weighs about three times the parameters during a training."""

    def is_due(self) -> bool:
        """Return whether a snapshot is to be saved now: some seconds after the last one, or at a shutdown."""


class NoSnapshots:
    """The snapshots of a computation that is not resumed."""

    def load(self) -> bytes | None:
        return None

    def save(self, data: bytes) -> None:
        pass

    def is_due(self) -> bool:
        return False


class Resumable(Protocol):
    """Something that a loop changes from step to step."""

    def state(self) -> State:
        """Return everything that the loop changes in it."""

    def restore(self, state: State) -> None:
        """Set it, in place, to what `state` returned."""


@dataclass(frozen=True)
class InPlace:
    """Tensors that a loop changes in place, by name."""

    tensors: Mapping[str, Tensor]

    def state(self) -> State:
        return dict(self.tensors)

    def fits(self, state: State) -> bool:
        """Return whether the state has a tensor of the same shape for every one of these."""
        return {name: one.shape for name, one in state.items()} == {
            name: one.shape for name, one in self.tensors.items()
        }

    @torch.no_grad()
    def restore(self, state: State) -> None:
        for name, tensor in self.tensors.items():
            tensor.copy_(state[name])


@dataclass(frozen=True)
class OptimiserState:
    """The state of an optimiser of torch.optim, and of the schedule of its learning rates."""

    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler | None = None

    def state(self) -> State:
        saved = self.optimiser.state_dict()
        moments = {str(index): one for index, one in saved["state"].items()}
        schedule = None if self.schedule is None else self.schedule.state_dict()
        return {"moments": moments, "groups": saved["param_groups"], "schedule": schedule}

    def restore(self, state: State) -> None:
        moments = {int(index): dict(one) for index, one in state["moments"].items()}
        tensors = [tensor for group in self.optimiser.param_groups for tensor in group["params"]]
        for index, one in moments.items():
            # In the memory layout of the parameter, as the optimiser itself makes them.
            of_shape = {name: value for name, value in one.items() if value.shape == tensors[index].shape}
            one |= {name: torch.empty_like(tensors[index]).copy_(value) for name, value in of_shape.items()}
        groups = [
            {**group, **({"betas": tuple(group["betas"])} if "betas" in group else {})}
            for group in state["groups"]
        ]
        self.optimiser.load_state_dict({"state": moments, "param_groups": groups})
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])


@dataclass
class _Finished:
    """A stage that is finished: what it changed or returned, and the generators that it used."""

    name: str
    state: Any
    generators: dict[str, Tensor]  # "depth/index" of a generator -> its state after the stage

    def as_state(self) -> State:
        return {"name": self.name, "state": self.state, "generators": self.generators}


@dataclass
class _Frame:
    """A stage that has begun, or the whole computation, and the stages in it."""

    name: str
    finished: list[_Finished] = field(default_factory=list)
    passed: int = 0  # how many of `finished` this attempt has come to
    interrupted: State | None = None  # the stage that an earlier attempt was in after those finished
    generators: list[torch.Generator] = field(default_factory=list)  # made in it so far, in order

    @property
    def is_catching_up(self) -> bool:
        """Whether an earlier attempt came further."""
        return self.passed < len(self.finished) or self.interrupted is not None

    def forget_later_stages(self) -> None:
        """Drop what an earlier attempt computed after the stage that this attempt has come to."""
        del self.finished[self.passed :]
        self.interrupted = None


@dataclass
class _Loop:
    """A loop that runs: what it changes, and its next step."""

    name: str
    step: int
    parts: Sequence[Resumable]
    generators_before: dict[str, Tensor]


class Journal:
    """The stages of one computation that are finished, and the one in progress."""

    def __init__(self, snapshots: Snapshots | None = None) -> None:
        self._snapshots = snapshots or NoSnapshots()
        self._records = not isinstance(self._snapshots, NoSnapshots)
        self._frames = [_Frame("")]
        self._loop: _Loop | None = None
        self._identity: Callable[[], str] = lambda: ""
        self.environments: tuple[Environment, ...] = ()

    def open(self, identity: Callable[[], str], environment: Environment) -> None:
        """Read the snapshot of an earlier attempt, if there is one, so that its stages are skipped.

        identity: returns a hash of the inputs that the computation depends on. A snapshot with another
        identity is ignored, and so is a damaged one. environment: that of this attempt; `environments` then
        names all in which the computation ran, in order.
        """
        self._identity, self.environments = identity, (environment,)
        data = self._snapshots.load() if self._records else None
        if data is None:
            return
        try:
            content = read_snapshot(data)
        except NotASnapshot as error:
            log.warning("the snapshot is ignored, the computation starts anew: %s", error)
            return
        if content["identity"] != identity():
            log.warning("the snapshot is ignored, the computation starts anew: it is of other inputs")
            return
        earlier = tuple(Environment(*one) for one in content["environments"])
        self.environments = earlier if earlier[-1] == environment else (*earlier, environment)
        _fill(self._frames[0], content["stages"])
        log.info("resuming after the stages %s", [one.name for one in self._frames[0].finished])

    @property
    def is_in_loop(self) -> bool:
        """Whether a loop runs. Then a snapshot can be saved at the beginning of its next step only."""
        return self._loop is not None

    def track(self, generator: torch.Generator) -> torch.Generator:
        """Note a new generator, so that its state is saved; return it.

        One that is made within a step of a loop lives no longer than the step, and needs no saving.
        """
        if self._records and self._loop is None:
            self._frames[-1].generators.append(generator)
        return generator

    def save_if_due(self) -> None:
        """Save a snapshot if one is due, unless this attempt still repeats what an earlier one did."""
        if self._snapshots.is_due() and not any(frame.is_catching_up for frame in self._frames):
            content = {
                "identity": self._identity(),
                "environments": self.environments,
                "stages": self._stages(),
            }
            self._snapshots.save(write_snapshot(content))

    def once(self, name: str, compute: Callable[[], State]) -> State:
        """Return what `compute` returns, from the snapshot if an earlier attempt finished it."""
        if not self._records or self._loop is not None:
            return compute()
        found = self._find_finished(name)
        if found is not None:
            return dict(found.state)
        before, state = self._generator_states(), self._within_frame(name, compute)
        self._finish(name, _copy(state), before)
        return state

    def aside(self, name: str, compute: Callable[[], T]) -> T:
        """Return what `compute` returns; only the stages within it are in snapshots, until it is finished.

        For a result that the caller stores elsewhere. An attempt that finds it there leaves this stage out.
        It must not use random generators that were made before it.
        """
        if not self._records or self._loop is not None:
            return compute()
        return self._within_frame(name, compute)

    def _within_frame(self, name: str, compute: Callable[[], T]) -> T:
        """Compute with a frame for the stages within it, those of an earlier attempt included."""
        frame, depth = _Frame(name), len(self._frames)
        if self._frames[-1].passed == len(self._frames[-1].finished):
            _fill(frame, self._take_interrupted(name, "finished") or {})
        self._frames.append(frame)
        try:
            return compute()
        finally:
            del self._frames[depth:]
            self._loop = None

    @contextmanager
    def loop(
        self,
        name: str,
        steps: range,
        parts: Sequence[Resumable],
        scratch: Sequence[Resumable],
        at_step: Callable[[int], None],
    ) -> Iterator[Iterator[int]]:
        """Give the steps that are left to do: none if an earlier attempt finished the loop.

        parts: what the loop changes. scratch: what it needs besides from step to step, and nobody after it.
        at_step: called with every step before it begins, when a snapshot can be saved.
        """
        if self._loop is not None:  # its steps are too short to be resumed within one
            yield _with(at_step, steps)
            return
        found = self._find_finished(name, parts)
        if found is not None:
            _restore(parts, found.state)
            yield iter(())
            return
        before, start = self._generator_states(), steps.start
        interrupted = self._take_interrupted(name, "step", parts)
        if interrupted is not None:
            _restore([*parts, *scratch], interrupted["state"])
            self._set_generators(interrupted["generators"])
            start = interrupted["step"]
            log.info("resuming %s at step %d of %d", name, start, steps.stop)
        self._loop = loop = _Loop(name, start, [*parts, *scratch], before)

        def note_step(step: int) -> None:
            loop.step = step
            at_step(step)

        try:
            yield _with(note_step, range(start, steps.stop, steps.step))
        finally:
            self._loop = None
        if self._records:
            self._finish(name, _copy([part.state() for part in parts]), before)

    def _find_finished(self, name: str, parts: Sequence[Resumable] = ()) -> _Finished | None:
        """Return the next stage if an earlier attempt finished it, with its generators set."""
        frame = self._frames[-1]
        if frame.passed == len(frame.finished):
            return None
        found = frame.finished[frame.passed]
        if found.name != name or not _fit(parts, found.state):
            self._start_anew(name, found.name)
            return None
        frame.passed += 1
        self._set_generators(found.generators)
        return found

    def _take_interrupted(self, name: str, key: str, parts: Sequence[Resumable] = ()) -> State | None:
        """Return the stage in which an earlier attempt was interrupted, if it is this one.

        key: what only a stage of this kind has.
        """
        frame = self._frames[-1]
        interrupted, frame.interrupted = frame.interrupted, None
        if interrupted is None:
            return None
        if interrupted["name"] == name and key in interrupted and _fit(parts, interrupted.get("state", [])):
            return interrupted
        self._start_anew(name, interrupted["name"])
        return None

    def _start_anew(self, name: str, found: str) -> None:
        log.warning("the snapshot is ignored from the stage %r on: it has %r there", name, found)
        self._frames[-1].forget_later_stages()

    def _finish(self, name: str, state: Any, before: Mapping[str, Tensor]) -> None:
        frame = self._frames[-1]
        frame.finished.append(_Finished(name, state, self._changed_generators(before)))
        frame.passed += 1
        self.save_if_due()

    def _stages(self) -> State:
        """Return the finished stages of all frames, each frame within the one around it."""
        inner: State | None = None
        if self._loop is not None:
            inner = {
                "name": self._loop.name,
                "step": self._loop.step,
                "state": [part.state() for part in self._loop.parts],
                "generators": self._changed_generators(self._loop.generators_before),
            }
        for frame in reversed(self._frames):
            finished = [one.as_state() for one in frame.finished]
            inner = {"name": frame.name, "finished": finished, "interrupted": inner}
        assert inner is not None
        return inner

    def _generators(self) -> dict[str, torch.Generator]:
        return {
            f"{depth}/{index}": generator
            for depth, frame in enumerate(self._frames)
            for index, generator in enumerate(frame.generators)
        }

    def _generator_states(self) -> dict[str, Tensor]:
        return {name: generator.get_state() for name, generator in self._generators().items()}

    def _changed_generators(self, before: Mapping[str, Tensor]) -> dict[str, Tensor]:
        now = self._generator_states()
        return {name: state for name, state in now.items() if not torch.equal(state, before[name])}

    def _set_generators(self, states: Mapping[str, Tensor]) -> None:
        generators = self._generators()
        for name, state in states.items():
            generators[name].set_state(state)


def _fill(frame: _Frame, stages: State) -> None:
    """Give a frame the stages that an earlier attempt finished in it."""
    frame.finished = [_Finished(**one) for one in stages.get("finished", [])]
    frame.interrupted = stages.get("interrupted")


def _with(at_step: Callable[[int], None], steps: range) -> Iterator[int]:
    for step in steps:
        at_step(step)
        yield step


def _fit(parts: Sequence[Resumable], states: Sequence[State]) -> bool:
    """Return whether saved tensors have the shapes of those to restore: another kind of machine that computed
    what lies between the stages again may have made another network of it."""
    pairs = zip(parts, states, strict=False)
    return all(part.fits(state) for part, state in pairs if isinstance(part, InPlace))


def _restore(parts: Sequence[Resumable], states: Sequence[State]) -> None:
    for part, state in zip(parts, states, strict=False):
        part.restore(state)


def _copy(value: Any) -> Any:
    """Copy the tensors of nested dictionaries and lists to the CPU, so that later changes are not seen."""
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, Mapping):
        return {name: _copy(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_copy(one) for one in value]
    return value
