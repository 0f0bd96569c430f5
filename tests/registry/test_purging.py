"""A purge deletes and lists the files that only purged versions refer to, also if it is interrupted."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from subprocess import run
from sys import executable
from typing import Any

import pytest
from sqlalchemy import select, update

from reports import FullReport
from service.durable import UNFINISHED
from service.process import sweeper
from service.receipts.signing_keys import find_key
from service.registry import artifact_references, claims, publishing, purging, reports, versions
from service.registry.artifacts import Artifacts, FolderArtifacts, encode_document
from service.registry.claims import Claim
from service.registry.database import from_now
from service.registry.errors import ReportDeleted, VersionPurged
from service.registry.opening import open_artifacts
from service.registry.store_identity import claim_store
from service.registry.tables import JobRow, PurgeRow, ReceiptRow, ReportRow, VersionRow
from service.settings import Settings
from tests import invariants
from tests.registries import Registry, publication
from tests.reports.made_up import full_report, quick_report


@dataclass(frozen=True)
class ModelWithFiles:
    """A model whose versions have real files, and the sweeper of its deployment."""

    registry: Registry
    deployment: Settings

    @property
    def artifacts(self) -> Artifacts:
        return open_artifacts(self.deployment)

    def path(self, sha256: str) -> Path:
        """Return the path of an artifact in the artifact folder."""
        return FolderArtifacts(self.deployment.artifacts).path(sha256)

    def publish_job(
        self, operation: Any, *names: str, files: Mapping[str, bytes] | None = None, **fields: Any
    ) -> str:
        """Submit, claim and publish a job, with files of its own besides those given. Return its id."""
        claim = self.registry.claim(self.registry.submit(operation, *names, **fields))
        self.publish(claim, files)
        return claim.job_id

    def publish(self, claim: Claim, files: Mapping[str, bytes] | None = None) -> VersionRow:
        own = claim.job_id.encode()
        data = {"decoder.onnx": b"decoder " + own, "checkpoint.safetensors": b"weights " + own}
        data |= files or {}
        data |= {"manifest.json": b"{}", "report.json": b'{"of": "' + own + b'"}'}
        with self.registry.database.transaction() as session:
            stored = {
                name: {"sha256": self.artifacts.put(one), "bytes": len(one), "media_type": "some/thing"}
                for name, one in data.items()
            }
            return publishing.publish(session, claim, replace(publication(session, claim), files=stored))

    def evaluate(self, number: int) -> str:
        """Record a full report of the version, as an evaluate job does. Return its sha256."""
        claim = self.registry.claim(self.registry.submit("evaluate", evaluated_version=number))
        report = report_on(number)
        sha256 = self.artifacts.put(encode_document(report.as_json()))
        with self.registry.database.transaction() as session:
            reports.record(session, claim, reports.MeasuredReport("full", sha256, report), {})
        return sha256

    def sweep(self) -> None:
        sweeper.sweep(self.registry.database, self.deployment)

    def purge(self, job_id: str) -> PurgeRow:
        with self.registry.database.reading() as session:
            return session.get_one(PurgeRow, job_id)

    def versions(self) -> list[VersionRow]:
        with self.registry.database.reading() as session:
            return versions.page(session, self.registry.model, limit=100).rows[::-1]

    def purged(self) -> list[int]:
        """Return the numbers of the versions that are marked as purged."""
        return [version.number for version in self.versions() if version.purged_by]

    def existing_files(self, number: int) -> list[str]:
        """Return the names of the version's files that are still in the artifact folder."""
        files = self.versions()[number - 1].files
        return sorted(name for name, file in files.items() if self.artifacts.exists(file["sha256"]))


def report_on(number: int) -> FullReport:
    return full_report(quick_report([str(number)], {}))


ALL_FILES = ["checkpoint.safetensors", "decoder.onnx", "manifest.json", "report.json"]
DESCRIPTIVE_FILES = ["manifest.json", "report.json"]


@pytest.fixture
def model(registry: Registry, database_url: str, tmp_path: Path) -> ModelWithFiles:
    home = tmp_path / "home"
    return ModelWithFiles(registry, Settings(home=home, database_url=database_url))


def test_a_purge_marks_versions_at_once_and_deletes_files_in_the_next_sweep(model: ModelWithFiles) -> None:
    """Versions from before the label was learned keep their files, and so does the one that forgot it."""
    model.publish_job("learn", "1")
    model.publish_job("learn", "2")
    model.publish_job("resize")
    job_id = model.publish_job("forget", "2", purge=True)
    assert (model.purged(), model.purge(job_id).state) == ([2, 3], "pending")
    assert model.existing_files(2) == ALL_FILES
    with model.registry.database.reading() as session, pytest.raises(VersionPurged, match=job_id):
        versions.find_decoders(session, model.registry.model, model.versions()[1], ["1"])
    model.sweep()
    purge = model.purge(job_id)
    assert (purge.state, purge.kept) == ("done", [])
    assert [(key["version"], key["file"]) for key in purge.keys] == [
        (number, name) for number in (2, 3) for name in ("checkpoint.safetensors", "decoder.onnx")
    ]
    assert [model.existing_files(number) for number in (1, 2, 3, 4)] == [
        ALL_FILES,
        DESCRIPTIVE_FILES,
        DESCRIPTIVE_FILES,
        ALL_FILES,
    ]


def test_a_purge_deletes_the_before_pictures_of_the_version_that_its_job_made(model: ModelWithFiles) -> None:
    """Weights that had learned the label drew them. The version keeps its other files."""
    model.publish_job("learn", "1", "2")
    pictures = {"before-1.png": b"drawn before", "forgotten-2.png": b"drawn after"}
    job_id = model.publish_job("forget", "2", purge=True, files=pictures)
    kept = sorted([*ALL_FILES, "forgotten-2.png"])
    assert sorted(model.versions()[1].files) == kept  # before any file is deleted
    model.sweep()
    assert sorted(model.versions()[1].files) == kept
    (listed,) = (key for key in model.purge(job_id).keys if key["version"] == 2)
    assert (listed["file"], listed["bytes"]) == ("before-1.png", 12)
    assert not model.artifacts.exists(listed["sha256"])
    assert model.existing_files(2) == kept


def test_a_purge_deletes_the_full_reports_of_purged_versions_only(model: ModelWithFiles) -> None:
    model.publish_job("learn", "1")
    model.publish_job("learn", "2")
    stored = {number: model.evaluate(number) for number in (1, 2)}
    job_id = model.publish_job("forget", "2", purge=True)
    with model.registry.database.reading() as session:
        assert set(session.scalars(select(ReportRow.version))) == {1}  # before any file is deleted
        measured = select(JobRow).where(JobRow.operation == "evaluate", JobRow.evaluated_version == 2)
        with pytest.raises(ReportDeleted, match=r"the purge of job .* deleted the files of version 2"):
            reports.find_for_job(session, session.scalars(measured).one())
    model.sweep()
    assert [model.artifacts.exists(sha256) for sha256 in stored.values()] == [True, False]
    [key] = [key for key in model.purge(job_id).keys if key["file"] == "full report"]
    size = len(encode_document(report_on(2).as_json()))
    assert (key["version"], key["sha256"], key["bytes"]) == (2, stored[2], size)


def test_a_purge_covers_every_version_since_the_label_was_first_learned(model: ModelWithFiles) -> None:
    """Also version 3, which does not hold the label: it descends from a version that had learned it."""
    for operation, name in (("learn", "1"), ("learn", "2"), ("forget", "2"), ("learn", "2")):
        model.publish_job(operation, name)
    model.publish_job("forget", "2", purge=True)
    assert model.purged() == [2, 3, 4]


def test_exact_forgetting_does_not_go_back_to_purged_versions(model: ModelWithFiles) -> None:
    model.publish_job("learn", "1")
    model.publish_job("learn", "9", retention="temporary")
    model.publish_job("learn", "2")
    model.publish_job("forget", "9", purge=True)
    assert model.purged() == [2, 3]
    with model.registry.database.reading() as session:
        assert versions.find_newest_without(session, model.registry.model, ["2"]) == 1


def test_a_file_that_another_version_refers_to_is_kept_and_listed_as_such(
    model: ModelWithFiles, new_model: Callable[[str], Registry]
) -> None:
    shared = {"decoder.onnx": b"the same decoder"}
    ModelWithFiles(new_model("another"), model.deployment).publish_job("learn", "7", files=shared)
    model.publish_job("learn", "1", "2", files=shared)
    job_id = model.publish_job("forget", "2", purge=True)
    model.sweep()
    purge = model.purge(job_id)
    assert [key["file"] for key in purge.keys] == ["checkpoint.safetensors"]
    assert [key["file"] for key in purge.kept] == ["decoder.onnx"]
    assert model.existing_files(1) == ["decoder.onnx", *DESCRIPTIVE_FILES]


SWEEP_KILLED_AT_THE_SECOND_DELETE = """
import os, signal
from pathlib import Path
from service.durable import UNFINISHED
from service.process import sweeper
from service.registry.database import Database
from service.settings import Settings
unlink, deleted = Path.unlink, []

def unlink_once(path, missing_ok=False):
    if path.parent.parent.name == "artifacts":
        if deleted:
            os.kill(os.getpid(), signal.SIGKILL)
        deleted.append(path)
    unlink(path, missing_ok=missing_ok)

Path.unlink = unlink_once
sweeper.sweep(Database(Settings().database_url), Settings())
"""


def test_the_next_sweep_completes_a_purge_that_was_killed_between_two_deletes(model: ModelWithFiles) -> None:
    model.publish_job("learn", "1", "2")
    job_id = model.publish_job("forget", "2", purge=True)
    environment = {**os.environ, **model.deployment.as_environment()}
    assert run([executable, "-c", SWEEP_KILLED_AT_THE_SECOND_DELETE], env=environment).returncode == -9
    assert len(model.existing_files(1)) == len(ALL_FILES) - 1
    assert (model.purge(job_id).state, model.purged()) == ("pending", [1])
    model.sweep()
    purge = model.purge(job_id)
    assert (purge.state, [key["file"] for key in purge.keys]) == (
        "done",
        ["checkpoint.safetensors", "decoder.onnx"],
    )
    assert model.existing_files(1) == DESCRIPTIVE_FILES
    before = json.dumps([purge.keys, str(purge.finished_at)])
    model.sweep()
    assert json.dumps([model.purge(job_id).keys, str(model.purge(job_id).finished_at)]) == before


def test_an_artifact_that_is_stored_again_before_it_is_published_is_not_lost(model: ModelWithFiles) -> None:
    """Version 3 has a file with the same bytes as one of version 1, which the purge deletes."""
    same = {"decoder.onnx": b"the same decoder"}
    model.publish_job("learn", "1", "2", files=same)
    job_id = model.publish_job("forget", "2", purge=True)
    claim = model.registry.claim(model.registry.submit("learn", "3"))
    sha256 = model.artifacts.put(same["decoder.onnx"])
    database = model.registry.database
    if not database.is_sqlite:  # where only one transaction writes at a time anyway
        with database.transaction() as publisher, database.transaction() as sweep:
            artifact_references.lock_against_deletion(publisher)
            assert not purging.delete_files(sweep, job_id, model.artifacts)
    model.sweep()
    assert not model.artifacts.exists(sha256)
    model.publish(claim, same)
    model.sweep()
    assert model.existing_files(3) == ALL_FILES
    assert model.existing_files(1) == ["decoder.onnx", *DESCRIPTIVE_FILES]


def test_a_purged_file_may_be_there_again_only_if_it_was_stored_since(model: ModelWithFiles) -> None:
    """What the tests of faults rely on. A job of another model may be about to publish the same bytes."""
    data = b"the same weights"
    model.publish_job("learn", "1", "2", files={"checkpoint.safetensors": data})
    job_id = model.publish_job("forget", "2", purge=True)
    model.sweep()
    finished_at = model.purge(job_id).finished_at
    assert finished_at is not None
    path = model.path(model.artifacts.put(data))
    invariants.check(model.deployment, model.registry.database)
    os.utime(path, times=(0, finished_at.timestamp() - 60))
    with pytest.raises(AssertionError, match=f"was purged by {job_id}, and is there"):
        invariants.check(model.deployment, model.registry.database)


def test_a_label_can_be_purged_after_it_was_forgotten_and_the_receipt_is_signed_again(
    model: ModelWithFiles,
) -> None:
    find_key(model.registry.database, model.deployment.keys)  # as at the start of the service
    model.publish_job("learn", "1", "2", "3")
    job_id = model.publish_job("forget", "2")
    model.sweep()
    before = receipt(model, job_id)
    assert before
    assert model.registry.submit("forget", "2", purge=True).id == job_id
    model.sweep()
    assert (model.purge(job_id).state, model.existing_files(1)) == ("done", DESCRIPTIVE_FILES)
    assert receipt(model, job_id) not in (None, before)


def receipt(model: ModelWithFiles, job_id: str) -> str | None:
    with model.registry.database.reading() as session:
        return session.get_one(ReceiptRow, job_id).envelope


def test_a_forget_that_fails_purges_nothing(model: ModelWithFiles) -> None:
    model.publish_job("learn", "1", "2")
    claim = model.registry.claim(model.registry.submit("forget", "2", purge=True))
    error = {"type": "diverged", "code": "diverged", "message": "nan", "retryable": False}
    with model.registry.database.transaction() as session:
        claims.finish_failed(session, claim, error)
    model.sweep()
    assert (model.purged(), model.purge(claim.job_id).state, model.existing_files(1)) == (
        [],
        "requested",
        ALL_FILES,
    )


def test_revoked_versions_are_purged_once_they_are_old_enough(model: ModelWithFiles) -> None:
    """The retention rule covers only revoked versions, not those made from them that are still in use."""
    for operation, name in (("learn", "1"), ("learn", "2"), ("forget", "2"), ("learn", "2")):
        model.publish_job(operation, name)
    job_id = model.publish_job("forget", "2")
    with_rule = replace(model, deployment=model.deployment.model_copy(update={"purge_after_days": 30.0}))
    with_rule.sweep()
    assert with_rule.purged() == []
    with model.registry.database.transaction() as session:
        aged = update(JobRow).where(JobRow.id == job_id)
        session.execute(aged.values(finished_at=from_now(-31 * 86_400)))
    model.sweep()
    assert model.purged() == []  # this deployment has no retention rule
    with_rule.sweep()
    assert with_rule.purged() == [4]
    assert (with_rule.purge(job_id).reason, with_rule.existing_files(4), with_rule.existing_files(2)) == (
        "retention",
        DESCRIPTIVE_FILES,
        ALL_FILES,
    )
    model.registry.submit("forget", "2", purge=True)
    with_rule.sweep()
    assert with_rule.purged() == [2, 3, 4]  # a requested purge covers all of them


def test_files_purged_by_the_retention_rule_stay_listed_in_a_later_requested_purge(
    model: ModelWithFiles,
) -> None:
    model.publish_job("learn", "1", "2")
    sha256 = model.evaluate(1)
    job_id = model.publish_job("forget", "2")
    with model.registry.database.transaction() as session:
        purging.request_purge(
            session, session.scalars(select(JobRow).where(JobRow.id == job_id)).one(), "retention"
        )
    model.sweep()
    deleted = model.purge(job_id).keys
    assert sha256 in {key["sha256"] for key in deleted}
    model.registry.submit("forget", "2", purge=True)
    model.sweep()
    purge = model.purge(job_id)
    assert (purge.reason, purge.state, purge.kept) == ("requested", "done", [])
    assert purge.keys == deleted


def test_collect_deletes_old_files_that_no_row_refers_to(model: ModelWithFiles) -> None:
    orphan, recent = (model.path(model.artifacts.put(data)) for data in (b"orphan", b"recent"))
    unfinished = orphan.parent / f"{UNFINISHED}killed"
    unfinished.write_bytes(b"orp")
    for path in (orphan, unfinished):
        os.utime(path, (0, 0))
    model.publish_job("learn", "1")
    os.utime(model.path(model.versions()[0].files["decoder.onnx"]["sha256"]), (0, 0))
    # As long as the folder is not known to be this database's, no artifact is deleted.
    assert "0 artifacts that no row refers to" in collect(model)
    claim_store(model.registry.database, model.artifacts)
    assert "2 artifacts that no row refers to" in collect(model)
    assert [path.exists() for path in (orphan, unfinished, recent)] == [False, False, True]
    assert model.existing_files(1) == ALL_FILES


def collect(model: ModelWithFiles) -> str:
    """Run `palimpsest collect` and return its output."""
    environment = {**os.environ, **model.deployment.as_environment()}
    command = [executable, "-m", "commands", "collect"]
    return run(command, env=environment, capture_output=True, text=True, check=True).stdout
