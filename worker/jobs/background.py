"""What runs in a thread of its own for as long as a `with` block does."""

from abc import ABC, abstractmethod
from threading import Event, Thread
from types import TracebackType
from typing import Self


class Background(ABC):
    """Calls `_run` in a thread when its `with` block begins, and sets `_ended` when the block ends.

    `_run` returns soon after `_ended` is set. A process that ends does not wait for the thread.
    """

    def __init__(self, name: str, *, join_seconds: float | None = None) -> None:
        """join_seconds: how long the end of the block waits for `_run` to return; None: without a limit."""
        self._ended = Event()
        self._join_seconds = join_seconds
        self._thread = Thread(target=self._run, name=name, daemon=True)

    @abstractmethod
    def _run(self) -> None: ...

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(self._join_seconds)
