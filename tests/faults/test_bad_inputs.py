"""Every row of the table of bad inputs gets its answer within a second, and leaves nothing behind."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.settings import Settings
from tests.api.bad_inputs import TABLE
from tests.api.serving import Served, serving
from tests.api.test_problems import send

ANSWER_SECONDS = 1.0
WARM_UP, ROUNDS = 2, 5
GROWTH = 1.05


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serving(Settings(home=tmp_path / "home")) as served:
        yield served


def test_bad_inputs_are_answered_in_time_and_nothing_grows(served: Served) -> None:
    served.model("table")
    served.done("table", "learn", labels=["1", "2", "3"])
    served.done("table", "forget", labels=["3"])
    served.model("table-empty")
    names = {"{m}": "table", "{empty}": "table-empty"}
    seconds = {bad: [0.0] for bad in range(len(TABLE))}
    for _ in range(WARM_UP):
        send_all(served, names, seconds)
    rows, files, memory = served.counts(), files_of(served), resident_bytes()
    seconds = {bad: [] for bad in range(len(TABLE))}
    for _ in range(ROUNDS):
        send_all(served, names, seconds)
    assert served.counts() == rows
    assert files_of(served) == files
    assert resident_bytes() < memory * GROWTH
    # The fastest of some, because this machine does other things meanwhile.
    late = {TABLE[bad].name: min(times) for bad, times in seconds.items() if min(times) > ANSWER_SECONDS}
    assert late == {}


def send_all(served: Served, names: dict[str, str], seconds: dict[int, list[float]]) -> None:
    """Send every bad request once, and add how long its answer took."""
    for number, bad in enumerate(TABLE):
        answer = send(served.http, bad, names)
        assert (answer.status_code, answer.json()["code"]) == (bad.status, bad.code), bad.name
        seconds[number].append(answer.elapsed.total_seconds())


def files_of(served: Served) -> set[Path]:
    return {path for path in served.settings.home.rglob("*") if path.is_file()}


def resident_bytes() -> int:
    """Return how much memory this process has: the server runs in it."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
