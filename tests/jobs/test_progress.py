"""The time that a phase still takes is estimated from the pace of its steps so far."""

from worker.jobs.progress import ProgressHistory, RemainingTime
from worker.learning.strategy import Progress


def test_the_rest_of_a_phase_takes_as_long_per_step_as_its_beginning() -> None:
    now = [50.0]
    remaining = RemainingTime(clock=lambda: now[0])
    assert remaining.estimate(Progress("learning", 0, 10, None)) is None, "no step has been done yet"
    now[0] += 2.0
    assert remaining.estimate(Progress("learning", 4, 10, None)) == 3.0


def test_a_new_phase_has_a_pace_of_its_own() -> None:
    now = [0.0]
    remaining = RemainingTime(clock=lambda: now[0])
    remaining.estimate(Progress("learning", 0, 10, None))
    now[0] += 100.0
    remaining.estimate(Progress("fisher", 0, 4, None))
    now[0] += 1.0
    assert remaining.estimate(Progress("fisher", 1, 4, None)) == 3.0


def test_progress_is_recorded_at_each_phase_and_more_rarely_the_longer_a_job_takes() -> None:
    now = [0.0]
    history = ProgressHistory(clock=lambda: now[0])
    recorded = []
    for second in range(20_000):
        now[0] = float(second)
        if history.is_due("learning"):
            history.note_recorded("learning")
            recorded.append(second)
    assert recorded[:3] == [0, 1, 2]
    assert recorded[-1] - recorded[-2] > 50
    assert len(recorded) < 1500
    assert history.is_due("judging")
