"""A restored backup lets no revoked key and no ended session in; the erasure log loses no line."""

from pathlib import Path

import pytest

from migrations import upgrade
from service.recovery import erasure_log
from service.recovery.backup import back_up
from service.recovery.restore import restore
from service.registry import audit, exports, keys, projects, samples, sessions, versions, webhooks
from service.registry.errors import UnknownExport, UnknownProject, UnknownSample, UnknownWebhook
from service.registry.exports import ExportRequest
from service.registry.tables import DEFAULT_PROJECT
from service.settings import Settings
from tests.recovery.deployments import Deployment


def deployment(home: Path) -> Deployment:
    """A deployment on SQLite, whose erasure log lies in its home."""
    return Deployment(Settings(home=home, port=0))


def restored(home: Path, backup: Path, log: Path) -> Deployment:
    there = Settings(home=home, port=0)
    restore(there, backup, erasures=erasure_log.read(log), migrate=upgrade)
    return deployment(home)


@pytest.fixture
def original(tmp_path: Path) -> Deployment:
    made = deployment(tmp_path / "home")
    made.create("pages")
    return made


def test_what_was_revoked_or_deleted_since_the_backup_does_not_come_back(
    original: Deployment, tmp_path: Path
) -> None:
    original.work("learn", "1")
    with original.database.transaction() as session:
        revoked, text = keys.create(session, name="old", scopes=["admin"], project=None)
        kept, kept_text = keys.create(session, name="kept", scopes=["read"], project=None)
        _, cookie = sessions.create(session, kept.id, project=None, seconds=3600)
        webhook = webhooks.create(
            session, project=DEFAULT_PROJECT, url="https://x.test", types=["job.finished"], created_by=None
        )
        project = projects.create(session, "brief")
        first = versions.find(session, original.registry.model, 1)
        sample = samples.record(
            session, original.registry.model, first, labels=["1"], count=1, seed=1, format="png"
        )
        request = ExportRequest(labels=["1"], count=1, seed=1, format="npz", shard_images=1)
        export, _ = exports.create(session, original.registry.model, first, request, max_attempts=1)
    back_up(original.settings, tmp_path / "backup")
    with original.database.transaction() as session:  # as the API and the command line do it
        keys.revoke(session, revoked.id, project=None)
        webhooks.remove(session, webhooks.find(session, webhook.id, project=DEFAULT_PROJECT))
        samples.remove(session, samples.find(session, sample.id))
        exports.remove(session, export.id)
        projects.remove(session, project.id)
        for action, one in (
            ("key.revoke", revoked.id),
            ("webhook.delete", webhook.id),
            ("sample.delete", sample.id),
            ("export.delete", export.id),
            ("project.delete", project.id),
        ):
            audit.append(session, action, one, actor=None, project_id=None)
    original.sweep()
    copy = restored(tmp_path / "restored", tmp_path / "backup", original.settings.erasure_log)
    with copy.database.reading() as session:
        assert keys.find_usable(session, text) is None
        assert keys.find_usable(session, kept_text) is not None
        assert sessions.find(session, cookie) is None
        with pytest.raises(UnknownWebhook):
            webhooks.find(session, webhook.id, project=DEFAULT_PROJECT)
        with pytest.raises(UnknownSample):
            samples.find(session, sample.id)
        with pytest.raises(UnknownExport):
            exports.find(session, export.id, project=DEFAULT_PROJECT)
        with pytest.raises(UnknownProject):
            projects.find(session, project.id)
        assert erasure_log.find_unknown(session, erasure_log.read(copy.settings.erasure_log)) == []


def test_an_older_backup_can_be_restored_with_the_log_of_a_restored_service(
    original: Deployment, tmp_path: Path
) -> None:
    """The forget between the backups is known to the second one, and so was never replayed in its home."""
    original.work("learn", "1", "2")
    back_up(original.settings, tmp_path / "older")
    forgotten = original.work("forget", "2")
    back_up(original.settings, tmp_path / "newer")
    second = restored(tmp_path / "second", tmp_path / "newer", original.settings.erasure_log)
    third = restored(tmp_path / "third", tmp_path / "older", second.settings.erasure_log)
    with third.database.reading() as session:
        assert erasure_log.read_replayed(session) == [forgotten]


def test_a_log_that_is_lost_while_the_service_runs_is_written_again(original: Deployment) -> None:
    log = original.settings.erasure_log
    original.work("learn", "1", "2", "3")
    with original.database.transaction() as session:
        key, _ = keys.create(session, name="old", scopes=["admin"], project=None)
        keys.revoke(session, key.id, project=None)
        audit.append(session, "key.revoke", key.id, actor=None, project_id=None)
    first = original.work("forget", "1")
    log.unlink()
    second = original.work("forget", "2")
    everything = erasure_log.read(log)
    assert {one.id for one in everything} == {first, second, f"key.revoke/{key.id}"}
    with original.database.transaction() as session:  # as at a start with an older copy of the file
        assert erasure_log.find_missing(session, everything) == set()
        assert erasure_log.find_missing(session, everything[:1]) == {one.id for one in everything[1:]}
