"""The rows of a deletion of images: what jobs may still read, and what happens at the same moment."""

from threading import Thread

import pytest

from service.registry import dataset_deletions, datasets
from service.registry.database import Database
from service.registry.errors import DatasetInUse, ImagesDeleted
from service.registry.tables import DEFAULT_PROJECT, DatasetRow
from tests.registries import Registry, submit


@pytest.fixture
def uploaded(registry: Registry) -> Registry:
    """A registry with a model, and a dataset of the labels a and b."""
    with registry.database.transaction() as session:
        session.add(DatasetRow(name="doodles", images={"a": 5, "b": 5}, sha256="a" * 64))
    return registry


def delete(database: Database, label: str) -> None:
    with database.transaction() as session:
        dataset_deletions.delete_label(session, "doodles", label, project=DEFAULT_PROJECT)


def readable(database: Database, sequence: int) -> set[str]:
    with database.reading() as session:
        found = datasets.find_readable(session, "doodles", project=DEFAULT_PROJECT, sequence=sequence)
    assert found is not None
    assert [label for label, _ in found.stored] == ["a", "b"]
    return set(found.labels)


def test_jobs_accepted_before_a_deletion_may_read_the_images_and_later_ones_may_not(
    uploaded: Registry,
) -> None:
    older = uploaded.submit("learn", "b", dataset="doodles")
    delete(uploaded.database, "a")
    newer = uploaded.submit("learn", "c", dataset="digits")
    assert readable(uploaded.database, older.sequence) == {"a", "b"}
    assert readable(uploaded.database, newer.sequence) == {"b"}


def test_a_learn_that_was_checked_before_the_deletion_is_refused_after_it(uploaded: Registry) -> None:
    delete(uploaded.database, "a")
    with pytest.raises(ImagesDeleted, match="'a'"):
        uploaded.submit("learn", "x", dataset="doodles", renamed={"x": "a"})
    uploaded.submit("learn", "b", dataset="doodles")


def test_a_label_is_made_permanent_although_its_images_are_deleted(uploaded: Registry) -> None:
    uploaded.publish(uploaded.claim(uploaded.submit("learn", "a", dataset="doodles", retention="temporary")))
    delete(uploaded.database, "a")
    uploaded.publish(uploaded.claim(uploaded.submit("learn", "a", dataset="doodles")))
    assert uploaded.statuses() == {"a": "permanent"}


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)  # SQLite has one writer at a time
def test_a_deletion_waits_for_a_learn_that_is_being_accepted_and_then_sees_it(uploaded: Registry) -> None:
    failures: list[Exception] = []

    def try_to_delete() -> None:
        try:
            delete(uploaded.database, "a")
        except Exception as error:
            failures.append(error)

    with uploaded.database.transaction() as session:
        job = submit(session, uploaded.model, "learn", "a", dataset="doodles")
        deleting = Thread(target=try_to_delete)
        deleting.start()
        deleting.join(0.3)
        assert deleting.is_alive(), "it waits for the transaction that accepts the job"
    deleting.join(30)
    [refused] = failures
    assert isinstance(refused, DatasetInUse)
    assert refused.job_id == job.id


def test_warnings_are_no_longer_about_a_label_whose_images_are_deleted(registry: Registry) -> None:
    warnings = [
        {"code": "dim", "detail": "dark", "labels": ["a", "b"]},
        {"code": "inverted", "detail": "bright", "labels": ["a"]},
        {"code": "same_under_two_labels", "detail": "1 image is under several labels", "labels": ["a", "b"]},
    ]
    facts = datasets.UploadFacts(held_out={"a": 2, "b": 3}, warnings=warnings)
    with registry.database.transaction() as session:
        datasets.put(session, "doodles", images={"a": 9, "b": 9}, sha256="a" * 64, facts=facts)
    older = registry.submit("learn", "b", dataset="doodles")
    delete(registry.database, "a")
    with registry.database.reading() as session:
        row = session.get_one(DatasetRow, (DEFAULT_PROJECT, "doodles"))
        found = datasets.find_readable(session, "doodles", project=DEFAULT_PROJECT, sequence=older.sequence)
    assert row.warnings == [{"code": "dim", "detail": "dark", "labels": ["b"]}]
    assert datasets.count_test_images(row) == {"b": 3}
    assert found is not None
    assert dict(found.held_out) == {"a": 2, "b": 3}, "the older job still reads both, in their split"
