"""The sweeper sends lost messages again and ends what no worker is left to end."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from service.process import sweeper
from service.queue.messages import count_waiting_messages
from service.registry import jobs, sweeping
from service.registry.database import Database
from service.settings import Settings
from tests.instance import wait_for
from tests.registries import Registry


def settings(home: Path, broker_url: str) -> Settings:
    """Return settings with which a message is due again almost at once."""
    return Settings(home=home, broker_url=broker_url, notify_again_seconds=0.001)


def due(registry: Registry) -> list[str]:
    with registry.database.reading() as session:
        return sweeping.find_due(session, queue="default", notify_again_seconds=0.001, limit=1000)


def test_a_lost_message_is_sent_again_and_its_time_recorded(
    registry: Registry, broker_url: str, tmp_path: Path
) -> None:
    deployment = settings(tmp_path, broker_url)
    job = registry.submit("learn", "1")
    wait_for("the message is due", lambda: due(registry))
    sweeper.sweep(registry.database, deployment)
    assert count_waiting_messages(deployment) == 1
    notified_at = registry.job(job).notified_at
    assert notified_at is not None
    assert notified_at > job.created_at


def test_a_message_that_the_broker_did_not_take_is_sent_by_the_next_sweep(
    registry: Registry, tmp_path: Path
) -> None:
    job = registry.submit("learn", "1")
    wait_for("the message is due", lambda: due(registry))
    sweeper.sweep(registry.database, settings(tmp_path, "redis://127.0.0.1:1/0"))
    assert registry.job(job).notified_at == job.notified_at
    folder = settings(tmp_path, f"folder://{tmp_path / 'queue'}")
    sweeper.sweep(registry.database, folder)
    assert count_waiting_messages(folder) == 1


def test_a_broker_with_many_messages_gets_no_more(
    registry: Registry, new_model: Callable[[str], Registry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeper, "MAX_MESSAGES_WAITING", 3)
    deployment = settings(tmp_path, f"folder://{tmp_path / 'queue'}")
    for number in range(5):
        new_model(f"m{number}").submit("learn", "1")
    wait_for("the messages are due", lambda: len(due(registry)) == 5)
    for _ in range(3):
        sweeper.sweep(registry.database, deployment)
    assert count_waiting_messages(deployment) == 3


def test_one_process_sweeps_at_a_time(registry: Registry) -> None:
    """The second one does nothing on PostgreSQL, and on SQLite waits until the first has finished."""
    job = registry.claim(registry.submit("learn", "1", max_attempts=1), lease_seconds=-1).job_id
    if registry.database.is_sqlite:
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda _: sweep_rows(registry.database), range(4)))
    else:
        with registry.database.transaction() as first, registry.database.transaction() as second:
            assert [sweeping.try_sweep_lock(first), sweeping.try_sweep_lock(second)] == [True, False]
        assert sweep_rows(registry.database)
    with registry.database.reading() as session:
        ended = jobs.find(session, job)
        assert (ended.state, ended.fence, (ended.error or {})["code"]) == ("failed", 1, "worker_lost")


def sweep_rows(database: Database) -> bool:
    """Sweep the rows unless another process does; return whether this one did."""
    with database.transaction() as session:
        may_sweep = sweeping.try_sweep_lock(session)
        if may_sweep:
            sweeping.requeue_expired(session)
    return may_sweep
