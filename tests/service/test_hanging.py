"""A call that hangs is given up in time, and no more threads wait for it."""

from collections.abc import Iterator
from threading import Event

import pytest

from service.hanging import BoundedCalls
from tests.instance import wait_for


@pytest.fixture
def released() -> Iterator[Event]:
    released = Event()
    yield released
    released.set()


def test_a_call_returns_or_raises_what_the_function_does() -> None:
    calls = BoundedCalls(60)
    assert calls.call(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        calls.call(divmod, 7, 0)


def test_while_a_call_hangs_others_are_refused_at_once_and_then_made_again(released: Event) -> None:
    calls, made = BoundedCalls(0.01), list[int]()
    with pytest.raises(TimeoutError, match=r"0\.01 s"):
        calls.call(released.wait)
    with pytest.raises(TimeoutError):
        calls.call(made.append, 1)
    assert made == []
    released.set()

    def is_answered() -> bool:
        try:
            return calls.call(lambda: True)
        except TimeoutError:
            return False

    wait_for("calls are made again", is_answered)
