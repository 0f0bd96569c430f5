"""A backup of a running service restores every byte; what was forgotten since is forgotten again."""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from migrations import upgrade
from service.recovery import erasure_log
from service.recovery.backup import CannotBackUp, back_up
from service.recovery.restore import restore
from service.registry import (
    aliases,
    dataset_deletions,
    datasets,
    deletions,
    jobs,
    labels,
    models,
    purging,
    version_deletions,
    versions,
)
from service.registry.aliases import AliasRequest
from service.registry.deletions import DeletionRequest
from service.registry.errors import UnknownModel, VersionRevoked
from service.registry.tables import DEFAULT_PROJECT, JobRow, PurgeRow, VersionRow
from service.registry.version_deletions import DeletionRequest as VersionDeletionRequest
from tests.conftest import new_postgresql_database
from tests.recovery.deployments import Deployment, settings


@pytest.fixture(params=["sqlite", "postgresql"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def urls(kind: str) -> Iterator[tuple[str, str]]:
    """The URLs of two empty databases: one to back up, one to restore into."""
    if kind == "sqlite":
        yield "", ""
        return
    with new_postgresql_database() as one, new_postgresql_database() as other:
        yield one, other


@pytest.fixture
def original(kind: str, urls: tuple[str, str], tmp_path: Path) -> Iterator[Deployment]:
    """A deployment with a model that holds the labels 1 and 2, with real files."""
    deployment = Deployment(settings(kind, tmp_path / "home", urls[0]))
    deployment.create("pages")
    deployment.work("learn", "1", "2")
    yield deployment
    deployment.database.dispose()


def restored(original: Deployment, kind: str, urls: tuple[str, str], backup: Path) -> Deployment:
    """Restore the backup beside the original, and return it."""
    there = settings(kind, original.settings.home.parent / "restored", urls[1])
    erasures = erasure_log.read(there.erasure_log) if there.erasure_log.exists() else []
    restore(there, backup, erasures=erasures, migrate=upgrade)
    return Deployment(there)


def test_a_restored_backup_has_every_row_and_every_byte(
    original: Deployment, kind: str, urls: tuple[str, str], tmp_path: Path
) -> None:
    original.work("forget", "2")
    manifest = back_up(original.settings, tmp_path / "backup")
    expected = original.hashes()
    assert expected
    assert manifest.artifacts == len(expected)
    original.work("resize")  # after the backup: not in it
    copy = restored(original, kind, urls, tmp_path / "backup")
    assert copy.hashes() == expected
    with copy.database.reading() as session:
        assert {
            name: row.status for name, row in labels.find_all(session, copy.registry.model.id).items()
        } == {
            "1": "permanent",
            "2": "forgotten",
        }
        assert copy.registry.model.head == 2
    copy.work("resize")  # and it goes on
    copy.database.dispose()


def test_what_was_forgotten_since_the_backup_cannot_be_drawn_and_is_forgotten_again(
    original: Deployment, kind: str, urls: tuple[str, str], tmp_path: Path
) -> None:
    waiting = original.registry.submit("learn", "3")
    back_up(original.settings, tmp_path / "backup")
    original.worker.work(waiting.id)
    forgotten = [original.work("forget", "2", purge=True), original.work("forget", "3")]
    assert [one.id for one in erasure_log.read(original.settings.erasure_log)] == forgotten
    copy = restored(original, kind, urls, tmp_path / "backup")
    model = copy.registry.model
    with copy.database.reading() as session:
        assert jobs.find(session, waiting.id).state == "cancelled"  # it would learn 3 again
        with pytest.raises(VersionRevoked):
            versions.find_decoders(session, model, versions.find(session, model, 1), ["2"])
        [replayed] = session.scalars(select(JobRow).where(JobRow.state == "queued"))
        assert (replayed.operation, replayed.labels) == ("forget", ["2"])
        assert replayed.reference == f"replay of {forgotten[0]}"
    copy.worker.work(replayed.id)
    copy.sweep()
    with copy.database.reading() as session:
        assert labels.find_all(session, model.id)["2"].status == "forgotten"
        assert jobs.find(session, replayed.id).purge is not None
        assert erasure_log.find_unknown(session, erasure_log.read(copy.settings.erasure_log)) == []
    copy.database.dispose()


def test_a_forget_that_the_backup_has_as_unfinished_revokes_at_once_and_stays_so_if_it_is_cancelled(
    original: Deployment, kind: str, urls: tuple[str, str], tmp_path: Path
) -> None:
    waiting = original.registry.submit("forget", "2")
    back_up(original.settings, tmp_path / "backup")
    original.worker.work(waiting.id)
    with original.database.transaction() as session:
        purging.request_purge(session, jobs.find(session, waiting.id))
    original.sweep()
    copy = restored(original, kind, urls, tmp_path / "backup")
    with copy.database.transaction() as session:
        queued = session.scalars(select(JobRow.id).where(JobRow.state == "queued"))
        assert queued.all() == [waiting.id]
        assert session.get_one(PurgeRow, waiting.id).state == "requested"
        jobs.cancel(session, waiting.id)
    model = copy.registry.model
    with copy.database.reading() as session, pytest.raises(VersionRevoked):
        versions.find_decoders(session, model, versions.find(session, model, 1), ["2"])
    copy.database.dispose()


def test_a_model_that_was_deleted_since_the_backup_is_deleted_again(
    original: Deployment, kind: str, urls: tuple[str, str], tmp_path: Path
) -> None:
    back_up(original.settings, tmp_path / "backup")
    model = original.registry.model
    with original.database.transaction() as session:
        deletions.delete_model(session, model, purge=DeletionRequest())
    original.sweep()
    copy = restored(original, kind, urls, tmp_path / "backup")
    copy.sweep()
    with copy.database.reading() as session:
        with pytest.raises(UnknownModel):
            models.find(session, "pages", project=DEFAULT_PROJECT)
        assert deletions.find(session, model.id, project=DEFAULT_PROJECT)[1].state == "done"
        assert erasure_log.find_unknown(session, erasure_log.read(copy.settings.erasure_log)) == []
    assert not set(copy.hashes()) & {file["sha256"] for file in _files(original)}
    copy.database.dispose()


def test_a_version_that_was_deleted_since_the_backup_is_deleted_again(
    original: Deployment, kind: str, urls: tuple[str, str], tmp_path: Path
) -> None:
    """An alias that the backup still has for it goes, too. A version that is the head there stays."""
    model, head = original.registry.model, original.work("learn", "3")
    with original.database.transaction() as session:
        first = versions.find(session, model, 1)
        aliases.put(session, model, "production", first, AliasRequest())
    back_up(original.settings, tmp_path / "backup")
    original.work("resize")
    with original.database.transaction() as session:
        locked = jobs.lock_model(session, model)
        aliases.remove(session, aliases.find(session, locked, "production"), locked, AliasRequest())
        for number in (1, 2):
            version = versions.find(session, locked, number)
            assert version_deletions.delete_version(session, locked, version, VersionDeletionRequest())
    original.sweep()
    copy = restored(original, kind, urls, tmp_path / "backup")
    copy.sweep()
    with copy.database.reading() as session:
        states = {number: versions.state_of(versions.find(session, model, number)) for number in (1, 2)}
        assert states == {1: "deleted", 2: "usable"}
        assert versions.find(session, model, 2).job_id == head
        assert aliases.get(session, model, "production") is None
        gone = versions.find(session, model, 1).files["checkpoint.safetensors"]["sha256"]
        assert erasure_log.find_unknown(session, erasure_log.read(copy.settings.erasure_log)) == []
    assert gone not in copy.hashes()
    copy.database.dispose()


def test_images_that_were_deleted_since_the_backup_are_deleted_again(
    original: Deployment, kind: str, urls: tuple[str, str], tmp_path: Path
) -> None:
    """Those of a label by request, those of a whole dataset, and those that a forget deleted."""
    files = {name: original.upload(name, "a", "b", "c") for name in ("one", "two", "three")}
    original.work("learn", "a", dataset="three")
    waiting = original.registry.submit("learn", "x", dataset="one", renamed={"x": "b"})
    back_up(original.settings, tmp_path / "backup")
    original.worker.work(waiting.id)
    original.work("forget", "x")
    with original.database.transaction() as session:
        dataset_deletions.delete_label(session, "one", "b", project=DEFAULT_PROJECT)
        dataset_deletions.delete_dataset(session, "two", project=DEFAULT_PROJECT)
    forgotten = original.work("forget", "a", erase_images=True)
    copy = restored(original, kind, urls, tmp_path / "backup")
    with copy.database.reading() as session:
        assert jobs.find(session, waiting.id).state == "cancelled"  # it would learn the images
        rows = {row.name: list(row.images) for row in datasets.list_all(session) if row.images}
        assert rows == {"one": ["a", "c"], "three": ["b", "c"]}
        replayed = session.scalars(select(JobRow).where(JobRow.state == "queued")).all()
        assert [job.reference for job in replayed] == [f"replay of {forgotten}"]
    copy.sweep()
    assert set(files.values()) & set(copy.hashes()) == {files["three"]}, "the forget may need it"
    copy.worker.work(replayed[0].id)
    copy.sweep()
    assert set(files.values()) & set(copy.hashes()) == set()
    with copy.database.reading() as session:
        assert erasure_log.find_unknown(session, erasure_log.read(copy.settings.erasure_log)) == []
    copy.database.dispose()


def test_a_dataset_that_was_uploaded_again_after_its_deletion_stays(
    original: Deployment, kind: str, urls: tuple[str, str], tmp_path: Path
) -> None:
    original.upload("one", "a")
    with original.database.transaction() as session:
        dataset_deletions.delete_dataset(session, "one", project=DEFAULT_PROJECT)
    original.sweep()
    sha256 = original.upload("one", "a", "b")
    back_up(original.settings, tmp_path / "backup")
    copy = restored(original, kind, urls, tmp_path / "backup")
    copy.sweep()
    assert sha256 in copy.hashes()
    copy.database.dispose()


def _files(deployment: Deployment) -> list[dict[str, Any]]:
    with deployment.database.reading() as session:
        return [file for row in session.scalars(select(VersionRow)) for file in row.files.values()]


def test_an_incomplete_or_changed_backup_is_refused_and_nothing_is_written(
    original: Deployment, kind: str, urls: tuple[str, str], tmp_path: Path
) -> None:
    backup = tmp_path / "backup"
    back_up(original.settings, backup)
    with pytest.raises(CannotBackUp, match="exists already"):
        back_up(original.settings, backup)
    artifact = next((backup / "artifacts").glob("??/*"))
    there = settings(kind, tmp_path / "restored", urls[1])
    good = artifact.read_bytes()
    for bad, complaint in (
        (good[:-1] + bytes([good[-1] ^ 1]), "not as it was written"),
        (None, "artifacts of the"),
    ):
        if bad is None:
            artifact.unlink()
        else:
            artifact.write_bytes(bad)
        with pytest.raises(CannotBackUp, match=complaint):
            restore(there, backup, erasures=[], migrate=upgrade)
    artifact.write_bytes(good)
    (backup / "backup.json").unlink()
    with pytest.raises(CannotBackUp, match="not a complete backup"):
        restore(there, backup, erasures=[], migrate=upgrade)
    assert not there.artifacts.exists()


def test_restoring_over_something_is_refused(original: Deployment, tmp_path: Path) -> None:
    back_up(original.settings, tmp_path / "backup")
    with pytest.raises(CannotBackUp, match="empty"):
        restore(original.settings, tmp_path / "backup", erasures=[], migrate=upgrade)


def test_a_line_that_a_crash_cut_off_is_passed_over_and_a_changed_one_is_not(tmp_path: Path) -> None:
    original = Deployment(settings("sqlite", tmp_path / "home", ""))
    original.create("pages")
    original.work("learn", "1", "2", "3")
    original.work("forget", "1")
    path = original.settings.erasure_log
    whole = path.read_text()
    path.write_text(whole + whole[:40])
    assert len(erasure_log.read(path)) == 1
    original.work("forget", "2")
    assert [one.summary for one in erasure_log.read(path)] == ["1 of model pages", "2 of model pages"]
    path.write_text(whole.replace("labels", "label"))
    with pytest.raises(erasure_log.UnreadableLog, match=r"line \d of"):
        erasure_log.read(path)
    assert json.loads(whole)["labels"] == ["1"]
    with sqlite3.connect(original.settings.home / "palimpsest.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
