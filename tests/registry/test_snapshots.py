"""A job has one snapshot, which only its own worker replaces and which is deleted when the job has ended."""

from pathlib import Path

import pytest

from service.registry import artifact_references, claims, snapshots, sweeping
from service.registry.artifacts import FolderArtifacts
from service.registry.claims import Claim
from service.registry.errors import FencedOff
from tests.registries import Registry


@pytest.fixture
def artifacts(tmp_path: Path) -> FolderArtifacts:
    return FolderArtifacts(tmp_path / "artifacts")


def save(registry: Registry, claim: Claim, sha256: str) -> str | None:
    with registry.database.transaction() as session:
        return snapshots.replace(session, claim, sha256)


def delete_obsolete(registry: Registry, artifacts: FolderArtifacts) -> list[str]:
    with registry.database.transaction() as session:
        found = snapshots.find_obsolete(session)
        for job_id in found:
            snapshots.delete_if_obsolete(session, job_id, artifacts)
    return found


def test_a_new_snapshot_replaces_the_one_before_and_no_collection_deletes_it(
    registry: Registry, artifacts: FolderArtifacts
) -> None:
    job = registry.submit("learn", "1")
    claim = registry.claim(job)
    first, second = artifacts.put(b"first"), artifacts.put(b"second")
    assert save(registry, claim, first) is None
    assert save(registry, claim, second) == first
    assert save(registry, claim, second) is None
    with registry.database.reading() as session:
        assert snapshots.find(session, job.id) == second
        assert second in artifact_references.find_referenced(session)


def test_a_worker_that_was_replaced_cannot_replace_the_snapshot(
    registry: Registry, artifacts: FolderArtifacts
) -> None:
    job = registry.submit("learn", "1")
    late = registry.claim(job, lease_seconds=-1)
    with registry.database.transaction() as session:
        sweeping.requeue_expired(session)
    save(registry, registry.claim(job), sha256 := artifacts.put(b"of the second attempt"))
    with pytest.raises(FencedOff):
        save(registry, late, artifacts.put(b"late"))
    with registry.database.reading() as session:
        assert snapshots.find(session, job.id) == sha256


@pytest.mark.parametrize("end", ["failed", "cancelled", "succeeded", "lost", "queued"])
def test_a_snapshot_is_deleted_once_its_job_has_ended(
    registry: Registry, artifacts: FolderArtifacts, end: str
) -> None:
    job = registry.submit("learn", "1", max_attempts=1 if end == "lost" else 3)
    claim = registry.claim(job, lease_seconds=-1 if end == "lost" else 60)
    save(registry, claim, sha256 := artifacts.put(b"state"))
    assert delete_obsolete(registry, artifacts) == []
    with registry.database.transaction() as session:
        match end:
            case "failed":
                claims.finish_failed(session, claim, {"type": "user"})
            case "cancelled":
                claims.finish_cancelled(session, claim)
            case "lost":
                sweeping.requeue_expired(session)
            case "queued":
                claims.release(session, claim)
    if end == "succeeded":
        registry.publish(claim)
    ended = [] if end == "queued" else [job.id]
    assert delete_obsolete(registry, artifacts) == ended
    assert artifacts.exists(sha256) == (end == "queued")
    assert delete_obsolete(registry, artifacts) == []
