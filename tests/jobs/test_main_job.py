"""The main job through the real processes, on SQLite with a folder and on PostgreSQL with Redis.

The sweeper of this instance sleeps, so every job here is started by its wake-up message alone.
"""

import httpx2

from service.registry.artifacts import FolderArtifacts
from tests.instance import Instance

FILES = {"checkpoint.safetensors", "decoder.onnx", "report.json", "manifest.json"}
LONG = 100_000
"""Steps that no test waits for."""


def test_two_learns_a_forget_and_two_resizes_make_five_versions(running: Instance) -> None:
    model_id = running.create("main")
    job_ids = [
        running.submit("learn", "main", labels=["0", "1", "2"], steps=20),
        running.submit("learn", "main", labels=["3"], steps=20),
        running.submit("forget", "main", labels=["1"], steps=10),
        running.submit("resize", "main", policy="prune", steps=10),
        running.submit("resize", "main", policy="expand", params={"fisher_examples": 50}),
    ]
    jobs = [running.succeeded(job_id, seconds=120) for job_id in job_ids]

    assert [(job.attempt, job.output_version) for job in jobs] == [(1, number) for number in range(1, 6)]
    first, second, third, fourth, fifth = versions = running.versions(model_id)
    assert [version.parent for version in versions] == [None, 1, 2, 3, 4]
    assert [version.job_id for version in versions] == job_ids
    assert [sorted(version.labels) for version in (first, second, third)] == [
        ["0", "1", "2"],
        ["0", "1", "2", "3"],
        ["0", "2", "3"],
    ]
    assert fifth.labels == fourth.labels == third.labels == {"0": 0, "2": 2, "3": 3}
    assert [version.revoked_by for version in versions] == [job_ids[2], job_ids[2], None, None, None]
    assert fourth.parameters < min(third.parameters, fifth.parameters)

    artifacts = FolderArtifacts(running.deployment.artifacts)
    for version in versions:
        forgotten = {"forgotten-1.png"} if version.number > 2 else set()
        before = {f"before-{name}.png" for name in "0123"} if version.number == 3 else set()
        assert set(version.files) == FILES | forgotten | before
        assert all(len(artifacts.read(file["sha256"])) == file["bytes"] for file in version.files.values())

    images = f"{running.url}/v1/models/main/versions"
    assert httpx2.get(f"{images}/5/images/3/7.png").headers["content-type"] == "image/png"
    assert httpx2.get(f"{images}/5/images/1/7.png").json()["code"] == "label_forgotten"
    assert httpx2.get(f"{images}/2/images/0/7.png").status_code == 410


def test_a_version_below_its_criteria_is_rejected_and_changes_nothing(running: Instance) -> None:
    model_id = running.create("rejected")
    job = running.wait_until_done(
        running.submit("learn", "rejected", labels=["0"], steps=1, acceptance={"retained_accuracy_min": 1})
    )
    assert (job.state, job.output_version) == ("rejected", None)
    assert job.error is not None
    assert job.error["type"] == "acceptance_failed"
    assert "retained_accuracy_min 1 " in job.error["message"]
    assert running.versions(model_id) == []
    running.succeeded(running.submit("learn", "rejected", labels=["0"], steps=1))


def test_a_cancel_stops_a_running_job(running: Instance) -> None:
    model_id = running.create("cancelled")
    job_id = running.submit("learn", "cancelled", labels=["0"], steps=LONG)
    running.worker_in_training(job_id)
    assert running.request("POST", f"/v1/jobs/{job_id}/cancel", status=202)["state"] == "cancelling"
    job = running.wait_until_done(job_id)
    assert (job.state, job.output_version) == ("cancelled", None)
    assert running.versions(model_id) == []
    running.succeeded(running.submit("learn", "cancelled", labels=["0"], steps=1))
