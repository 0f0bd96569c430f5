"""A purge deletes what only the versions it takes refer to, lists it, and outlives being killed at it."""

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

from service.process import sweeper
from service.registry import artifact_references, claims, publishing, purging, reports, versions
from service.registry.artifacts import FolderArtifacts, encode_document
from service.registry.claims import Claim
from service.registry.database import from_now
from service.registry.errors import VersionPurged
from service.registry.tables import JobRow, PurgeRow, ReceiptRow, ReportRow, VersionRow
from service.settings import Settings
from tests.registries import Registry, publication


@dataclass(frozen=True)
class Shelf:
    """A model whose versions have real files, and the sweeper of its deployment."""

    registry: Registry
    deployment: Settings

    @property
    def artifacts(self) -> FolderArtifacts:
        return FolderArtifacts(self.deployment.artifacts)

    def done(
        self, operation: Any, *names: str, files: Mapping[str, bytes] | None = None, **asked: Any
    ) -> str:
        """A job published with files of its own, or with these; its id."""
        claim = self.registry.claimed(self.registry.submit(operation, *names, **asked))
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

    def measured(self, number: int) -> str:
        """The sha256 of a full report on the version, as an evaluate job leaves one."""
        claim = self.registry.claimed(self.registry.submit("evaluate", evaluated_version=number))
        report = {"of": number}
        sha256 = self.artifacts.put(encode_document(report))
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

    def sealed(self) -> list[int]:
        return [version.number for version in self.versions() if version.purged_by]

    def there(self, number: int) -> list[str]:
        """The files of a version that are still in the artifact folder."""
        files = self.versions()[number - 1].files
        return sorted(name for name, file in files.items() if self.artifacts.exists(file["sha256"]))


EVERY_FILE = ["checkpoint.safetensors", "decoder.onnx", "manifest.json", "report.json"]
EVIDENCE = ["manifest.json", "report.json"]


@pytest.fixture
def shelf(registry: Registry, database_url: str, tmp_path: Path) -> Shelf:
    home = tmp_path / "home"
    return Shelf(registry, Settings(home=home, database_url=database_url))


def test_a_purge_seals_at_once_and_deletes_in_the_next_sweep(shelf: Shelf) -> None:
    """Whatever was made after the label was learned goes; what never saw it stays, and so does the head."""
    shelf.done("learn", "1")
    shelf.done("learn", "2")
    shelf.done("resize")
    job_id = shelf.done("forget", "2", purge=True)
    assert (shelf.sealed(), shelf.purge(job_id).state) == ([2, 3], "pending")
    assert shelf.there(2) == EVERY_FILE
    with shelf.registry.database.reading() as session, pytest.raises(VersionPurged, match=job_id):
        versions.find_decoders(session, shelf.registry.model, shelf.versions()[1], ["1"])
    shelf.sweep()
    purge = shelf.purge(job_id)
    assert (purge.state, purge.kept) == ("done", [])
    assert [(key["version"], key["file"]) for key in purge.keys] == [
        (number, name) for number in (2, 3) for name in ("checkpoint.safetensors", "decoder.onnx")
    ]
    assert [shelf.there(number) for number in (1, 2, 3, 4)] == [EVERY_FILE, EVIDENCE, EVIDENCE, EVERY_FILE]


def test_what_was_drawn_before_of_labels_that_stay_goes_from_the_version_that_stays(shelf: Shelf) -> None:
    """Weights that had learned the label drew it. A later version keeps every file it has."""
    shelf.done("learn", "1", "2")
    pictures = {"before-1.png": b"drawn before", "forgotten-2.png": b"what is left"}
    job_id = shelf.done("forget", "2", purge=True, files=pictures)
    shelf.sweep()
    kept = sorted([*EVERY_FILE, "forgotten-2.png"])
    assert sorted(shelf.versions()[1].files) == kept
    (listed,) = (key for key in shelf.purge(job_id).keys if key["version"] == 2)
    assert (listed["file"], listed["bytes"]) == ("before-1.png", 12)
    assert not shelf.artifacts.exists(listed["sha256"])
    assert shelf.there(2) == kept


def test_full_reports_on_what_is_purged_go_with_their_pictures_and_others_stay(shelf: Shelf) -> None:
    shelf.done("learn", "1")
    shelf.done("learn", "2")
    stored = {number: shelf.measured(number) for number in (1, 2)}
    job_id = shelf.done("forget", "2", purge=True)
    shelf.sweep()
    with shelf.registry.database.reading() as session:
        assert set(session.scalars(select(ReportRow.version))) == {1}
    assert [shelf.artifacts.exists(sha256) for sha256 in stored.values()] == [True, False]
    [key] = [key for key in shelf.purge(job_id).keys if key["file"] == "full report"]
    assert (key["version"], key["sha256"], key["bytes"]) == (2, stored[2], len(encode_document({"of": 2})))


def test_what_was_made_from_a_label_forgotten_once_before_goes_too(shelf: Shelf) -> None:
    """Version 3 does not list 2, but descends from the version that learned it first."""
    for operation, name in (("learn", "1"), ("learn", "2"), ("forget", "2"), ("learn", "2")):
        shelf.done(operation, name)
    shelf.done("forget", "2", purge=True)
    assert shelf.sealed() == [2, 3, 4]


def test_exact_forgetting_goes_back_past_what_a_purge_for_a_temporary_label_sealed(shelf: Shelf) -> None:
    shelf.done("learn", "1")
    shelf.done("learn", "9", retention="temporary")
    shelf.done("learn", "2")
    shelf.done("forget", "9", purge=True)
    assert shelf.sealed() == [2, 3]
    with shelf.registry.database.reading() as session:
        assert versions.find_newest_without(session, shelf.registry.model, ["2"]) == 1


def test_a_file_that_any_other_version_refers_to_stays_and_is_listed_as_kept(
    shelf: Shelf, new_model: Callable[[str], Registry]
) -> None:
    shared = {"decoder.onnx": b"the same decoder"}
    Shelf(new_model("another"), shelf.deployment).done("learn", "7", files=shared)
    shelf.done("learn", "1", "2", files=shared)
    job_id = shelf.done("forget", "2", purge=True)
    shelf.sweep()
    purge = shelf.purge(job_id)
    assert [key["file"] for key in purge.keys] == ["checkpoint.safetensors"]
    assert [key["file"] for key in purge.kept] == ["decoder.onnx"]
    assert shelf.there(1) == ["decoder.onnx", *EVIDENCE]


KILLED_AT_THE_SECOND_DELETE = """
import os, signal
from pathlib import Path
from service.process import sweeper
from service.registry.database import Database
from service.settings import Settings
unlink, before = Path.unlink, []

def dying(path, missing_ok=False):
    if path.parent.parent.name == "artifacts":
        if before:
            os.kill(os.getpid(), signal.SIGKILL)
        before.append(path)
    unlink(path, missing_ok=missing_ok)

Path.unlink = dying
sweeper.sweep(Database(Settings().database_url), Settings())
"""


def test_a_sweeper_killed_between_two_deletes_is_made_whole_by_the_next(shelf: Shelf) -> None:
    shelf.done("learn", "1", "2")
    job_id = shelf.done("forget", "2", purge=True)
    environment = {**os.environ, **shelf.deployment.as_environment()}
    assert run([executable, "-c", KILLED_AT_THE_SECOND_DELETE], env=environment).returncode == -9
    assert len(shelf.there(1)) == len(EVERY_FILE) - 1
    assert (shelf.purge(job_id).state, shelf.sealed()) == ("pending", [1])
    shelf.sweep()
    purge = shelf.purge(job_id)
    assert (purge.state, [key["file"] for key in purge.keys]) == (
        "done",
        ["checkpoint.safetensors", "decoder.onnx"],
    )
    assert shelf.there(1) == EVIDENCE
    before = json.dumps([purge.keys, str(purge.finished_at)])
    shelf.sweep()
    assert json.dumps([shelf.purge(job_id).keys, str(shelf.purge(job_id).finished_at)]) == before


def test_nothing_is_deleted_between_a_stored_file_and_the_row_that_names_it(shelf: Shelf) -> None:
    """Version 3 is made of the very bytes that version 1 loses: it stores them again, and keeps them."""
    same = {"decoder.onnx": b"the same decoder"}
    shelf.done("learn", "1", "2", files=same)
    job_id = shelf.done("forget", "2", purge=True)
    claim = shelf.registry.claimed(shelf.registry.submit("learn", "3"))
    sha256 = shelf.artifacts.put(same["decoder.onnx"])
    database = shelf.registry.database
    if not database.is_sqlite:  # which has one writer at a time by itself
        with database.transaction() as publisher, database.transaction() as sweep:
            artifact_references.lock_against_deletion(publisher)
            assert not purging.delete_files(sweep, job_id, shelf.artifacts)
    shelf.sweep()
    assert not shelf.artifacts.exists(sha256)
    shelf.publish(claim, same)
    shelf.sweep()
    assert shelf.there(3) == EVERY_FILE
    assert shelf.there(1) == ["decoder.onnx", *EVIDENCE]


def test_a_label_forgotten_already_can_be_purged_later_and_gets_another_receipt(shelf: Shelf) -> None:
    shelf.done("learn", "1", "2", "3")
    job_id = shelf.done("forget", "2")
    shelf.sweep()
    before = receipt(shelf, job_id)
    assert before
    assert shelf.registry.submit("forget", "2", purge=True).id == job_id
    shelf.sweep()
    assert (shelf.purge(job_id).state, shelf.there(1)) == ("done", EVIDENCE)
    assert receipt(shelf, job_id) not in (None, before)


def receipt(shelf: Shelf, job_id: str) -> str | None:
    with shelf.registry.database.reading() as session:
        return session.get_one(ReceiptRow, job_id).envelope


def test_a_forget_that_fails_purges_nothing(shelf: Shelf) -> None:
    shelf.done("learn", "1", "2")
    claim = shelf.registry.claimed(shelf.registry.submit("forget", "2", purge=True))
    error = {"type": "diverged", "code": "diverged", "message": "nan", "retryable": False}
    with shelf.registry.database.transaction() as session:
        claims.finish_failed(session, claim, error)
    shelf.sweep()
    assert (shelf.sealed(), shelf.purge(claim.job_id).state, shelf.there(1)) == ([], "requested", EVERY_FILE)


def test_revoked_versions_are_purged_once_they_are_old_enough(shelf: Shelf) -> None:
    """By the rule only those that were revoked: what was made from them and is still drawn from stays."""
    for operation, name in (("learn", "1"), ("learn", "2"), ("forget", "2"), ("learn", "2")):
        shelf.done(operation, name)
    job_id = shelf.done("forget", "2")
    kept = replace(shelf, deployment=shelf.deployment.model_copy(update={"purge_after_days": 30.0}))
    kept.sweep()
    assert kept.sealed() == []
    with shelf.registry.database.transaction() as session:
        aged = update(JobRow).where(JobRow.id == job_id)
        session.execute(aged.values(finished_at=from_now(-31 * 86_400)))
    shelf.sweep()
    assert shelf.sealed() == []  # the deployment has no such rule
    kept.sweep()
    assert kept.sealed() == [4]
    assert (kept.purge(job_id).reason, kept.there(4), kept.there(2)) == ("retention", EVIDENCE, EVERY_FILE)
    shelf.registry.submit("forget", "2", purge=True)
    kept.sweep()
    assert kept.sealed() == [2, 3, 4]  # who asks gets all of it


def test_what_the_rule_took_stays_listed_when_somebody_asks_for_the_rest(shelf: Shelf) -> None:
    shelf.done("learn", "1", "2")
    sha256 = shelf.measured(1)
    job_id = shelf.done("forget", "2")
    with shelf.registry.database.transaction() as session:
        purging.request_purge(
            session, session.scalars(select(JobRow).where(JobRow.id == job_id)).one(), "retention"
        )
    shelf.sweep()
    taken = shelf.purge(job_id).keys
    assert sha256 in {key["sha256"] for key in taken}
    shelf.registry.submit("forget", "2", purge=True)
    shelf.sweep()
    purge = shelf.purge(job_id)
    assert (purge.reason, purge.state, purge.kept) == ("requested", "done", [])
    assert purge.keys == taken


def test_what_no_row_refers_to_is_collected_once_it_has_settled(shelf: Shelf) -> None:
    orphan, young = (shelf.artifacts.path(shelf.artifacts.put(data)) for data in (b"orphan", b"young"))
    half = orphan.parent / ".put-killed"
    half.write_bytes(b"orp")
    for path in (orphan, half):
        os.utime(path, (0, 0))
    assert collect(shelf) == "deleted 0 files that no row refers to\n"  # a database of another home, maybe
    shelf.done("learn", "1")
    os.utime(shelf.artifacts.path(shelf.versions()[0].files["decoder.onnx"]["sha256"]), (0, 0))
    assert collect(shelf) == "deleted 2 files that no row refers to\n"
    assert [path.exists() for path in (orphan, half, young)] == [False, False, True]
    assert shelf.there(1) == EVERY_FILE


def collect(shelf: Shelf) -> str:
    """What `palimpsest collect` says."""
    environment = {**os.environ, **shelf.deployment.as_environment()}
    command = [executable, "-m", "commands", "collect"]
    return run(command, env=environment, capture_output=True, text=True, check=True).stdout
