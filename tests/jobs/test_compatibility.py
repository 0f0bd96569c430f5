"""A job that a newer release accepted is left queued for a newer worker, and does not fail."""

from typing import Any

import pytest

from service.registry.tables import ModelRow
from tests.instance import schedule
from tests.jobs.worker_contexts import BRIEF_EVALUATION, find_job, run, submit
from worker.jobs.execution import execute
from worker.jobs.inputs import WorkerContext


@pytest.mark.parametrize(
    ("fields", "unknown"),
    [
        ({"strategy": "telepathy"}, "learn strategy telepathy"),
        ({"params": schedule(3) | {"empathy": 1}}, "param empathy"),
        ({"params": {"schedule": {"steps": 3, "shape": "spiral"}}}, "value of the param schedule.shape"),
        ({"params": {"schedule": {"steps": 3, "naps": 2}}}, "param schedule.naps"),
        ({"acceptance": {"beauty_min": 0.5}}, "acceptance criterion beauty_min"),
    ],
)
def test_what_an_older_worker_does_not_know_stays_queued(
    worker_context: WorkerContext,
    model: ModelRow,
    fields: dict[str, Any],
    unknown: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    job_id = submit(worker_context, model, "learn", "0", **fields)
    assert execute(job_id, worker_context) is None
    job = find_job(worker_context, job_id)
    assert (job.state, job.attempt, job.error) == ("queued", 0, None)
    assert f"job {job_id} stays queued: this release does not know its {unknown}" in caplog.text


def test_an_evaluation_with_an_unknown_param_stays_queued(
    worker_context: WorkerContext, model: ModelRow
) -> None:
    run(worker_context, model, "learn", "0")
    job_id = submit(worker_context, model, "evaluate", params=BRIEF_EVALUATION | {"telepathy": True})
    execute(job_id, worker_context)
    assert find_job(worker_context, job_id).state == "queued"
