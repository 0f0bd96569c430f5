"""What a real worker tells clients of a job: its states, its loss, and lines that name no path."""

import socket

from service.registry.tables import ModelRow
from tests.instance import schedule
from tests.jobs.worker_contexts import events, executing, find_job, lines, run, submit
from worker.jobs.inputs import WorkerContext


def states(worker_context: WorkerContext, job_id: str) -> list[str]:
    return [row.data["state"] for row in events(worker_context, job_id) if row.type == "state"]


def test_a_job_that_succeeds_says_what_it_did(worker_context: WorkerContext, model: ModelRow) -> None:
    job = run(worker_context, model, "learn", "0", "1", acceptance={"retained_accuracy_min": 0.0})
    assert job.state == "succeeded", job.error
    assert states(worker_context, job.id) == ["queued", "running", "verifying", "succeeded"]
    started, read, measured = lines(worker_context, job.id)
    assert started == "attempt 1 starts from no version"
    assert read.startswith("read images of the dataset digits: ")
    assert measured == "measured the candidate: it meets 1 of 1 criteria"
    assert events(worker_context, job.id)[-1].type == "state", "the end of the job is its last event"


def test_a_job_that_is_refused_or_fails_says_so(worker_context: WorkerContext, model: ModelRow) -> None:
    rejected = run(worker_context, model, "learn", "0", acceptance={"retained_accuracy_min": 1.0})
    assert rejected.state == "rejected"
    assert lines(worker_context, rejected.id)[-1] == "measured the candidate: it meets 0 of 1 criteria"
    failed = run(worker_context, model, "learn", "0", dataset="nowhere")
    assert failed.state == "failed"
    assert failed.error is not None
    assert failed.error["code"] in lines(worker_context, failed.id)[-1]


def test_no_line_names_a_path_or_the_machine(worker_context: WorkerContext, model: ModelRow) -> None:
    job = run(worker_context, model, "learn", "0", "1")
    text = " ".join(lines(worker_context, job.id))
    assert text
    assert "/" not in text
    assert socket.gethostname() not in text


def test_a_running_job_tells_its_progress_with_the_loss(
    worker_context: WorkerContext, model: ModelRow
) -> None:
    job_id = submit(worker_context, model, "learn", "0", "1", params=schedule(2000))
    with executing(worker_context, job_id):
        pass
    assert find_job(worker_context, job_id).state == "succeeded"
    progress = [row.data for row in events(worker_context, job_id) if row.type == "progress"]
    assert progress
    assert {"phase", "step", "total", "loss"} <= set(progress[0])
    assert any(one["loss"] is not None for one in progress)
