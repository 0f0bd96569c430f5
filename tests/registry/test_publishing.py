"""Publishing a version changes all its rows or none; the versions of a model are numbered without a gap."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import exc, update

from service.registry import claims, models, publishing, samples, versions
from service.registry.errors import (
    FencedOff,
    LabelForgotten,
    LabelNotLearned,
    ModelHasNoVersion,
    StaleBase,
    UnknownSample,
    UnknownVersion,
    VersionRevoked,
)
from service.registry.tables import VersionRow
from tests.registries import Registry, publication


def decoders_of(*names: str) -> dict[str, versions.LabelDecoder]:
    """Return the decoders of labels that were learned in this order: one decoder, with slots 0, 1, ..."""
    return {name: versions.LabelDecoder("d" * 64, slot) for slot, name in enumerate(names)}


def test_versions_are_numbered_without_a_gap(registry: Registry) -> None:
    published = [
        registry.publish_job("learn", "1", "2"),
        registry.publish_job("forget", "1"),
        registry.publish_job("resize"),
    ]
    assert [(version.number, version.parent) for version in published] == [(1, None), (2, 1), (3, 2)]
    assert registry.head() == 3


def test_publishing_ends_the_job_and_writes_the_statuses_of_labels(registry: Registry) -> None:
    job = registry.submit("learn", "1", "2", retention="temporary")
    registry.publish(registry.claim(job))
    done = registry.job(job)
    assert (done.state, done.output_version, done.lease_until) == ("succeeded", 1, None)
    assert done.finished_at is not None
    assert done.started_at is not None
    assert done.created_at <= done.started_at <= done.finished_at
    assert registry.statuses() == {"1": "temporary", "2": "temporary"}
    registry.publish_job("forget", "1")
    assert registry.statuses() == {"1": "forgotten", "2": "temporary"}


def test_a_job_publishes_once(registry: Registry) -> None:
    claim = registry.claim(registry.submit("learn", "1"))
    registry.publish(claim)
    with pytest.raises(FencedOff):
        registry.publish(claim)
    with registry.database.reading() as session:
        published = publishing.find_published_by(session, claim.job_id)
        assert published is not None
        assert published.number == 1


def test_publishing_is_one_transaction(registry: Registry) -> None:
    """If a part of it fails, no row has changed."""
    registry.publish_job("learn", "1")
    claim = registry.claim(registry.submit("learn", "2"))
    with registry.database.reading() as session:
        stale = replace(publication(session, claim), parent=None)
    with pytest.raises(StaleBase), registry.database.transaction() as session:
        publishing.publish(session, claim, stale)
    with registry.database.reading() as session:
        twice = replace(publication(session, claim), labels={"1": 0, "2": 0})
    with pytest.raises(exc.IntegrityError), registry.database.transaction() as session:
        publishing.publish(session, claim, twice)
    assert registry.head() == 1
    assert registry.job(claim).state == "running"
    assert registry.statuses() == {"1": "permanent"}
    with registry.database.reading() as session:
        assert [row.number for row in versions.page(session, registry.model, limit=9).rows] == [1]


def test_the_database_itself_refuses_a_gap_in_the_numbers(registry: Registry) -> None:
    version = registry.publish_job("learn", "1")
    for broken in ({"number": 2}, {"number": 3, "parent": 1}, {"number": 2, "parent": 2}):
        with pytest.raises(exc.IntegrityError), registry.database.transaction() as session:
            session.execute(update(VersionRow).where(VersionRow.id == version.id).values(broken))


def test_a_version_that_holds_a_forgotten_label_is_revoked(registry: Registry) -> None:
    registry.publish_job("learn", "1")
    registry.publish_job("learn", "2")
    forgetting = registry.submit("forget", "2")
    registry.publish(registry.claim(forgetting))
    with registry.database.reading() as session:
        first, second, third = (versions.find(session, registry.model, number) for number in (1, 2, 3))
        assert (first.revoked_by, second.revoked_by, third.revoked_by) == (None, forgetting.id, None)
        assert versions.find_decoders(session, registry.model, first, ["1"]) == decoders_of("1")
        with pytest.raises(VersionRevoked, match=forgetting.id):
            versions.find_decoders(session, registry.model, second, ["1"])
        with pytest.raises(LabelForgotten, match=forgetting.id) as refused:
            versions.find_decoders(session, registry.model, third, ["1", "2"])
        assert refused.value.job_id == forgetting.id
        with pytest.raises(LabelNotLearned, match="'7'"):
            versions.find_decoders(session, registry.model, third, ["1", "7"])


def test_a_revoked_version_stays_revoked_when_the_label_is_learned_again(registry: Registry) -> None:
    for operation, names in (("learn", "12"), ("forget", "1"), ("learn", "1")):
        registry.publish_job(operation, *names)  # type: ignore[arg-type]
    with registry.database.reading() as session:
        assert versions.find(session, registry.model, 1).revoked_by is not None
        head = versions.find_head(session, models.find(session, registry.model.id))
        assert versions.find_decoders(session, registry.model, head, ["1", "2"]) == decoders_of("1", "2")


def test_finding_an_unknown_version_or_sample_fails(registry: Registry) -> None:
    with registry.database.reading() as session:
        with pytest.raises(ModelHasNoVersion):
            versions.find_head(session, registry.model)
        with pytest.raises(UnknownVersion):
            versions.find(session, registry.model, 1)
        with pytest.raises(UnknownSample):
            samples.find(session, "smp_nowhere")


def test_a_recorded_sample_has_all_that_is_needed_to_draw_it_again(registry: Registry) -> None:
    version = registry.publish_job("learn", "1", "2")
    with registry.database.transaction() as session:
        recorded = samples.record(
            session, registry.model, version, labels=["2", "1"], count=4, seed=9, format="png_grid"
        )
    with registry.database.reading() as session:
        found = samples.find(session, recorded.id)
    assert (found.version, found.labels, found.count, found.seed) == (1, ["2", "1"], 4, 9)


def test_a_failed_or_rejected_job_publishes_nothing(
    registry: Registry, new_model: Callable[[str], Registry]
) -> None:
    error = {"type": "diverged", "code": "diverged", "message": "the loss became nan", "retryable": False}
    for name, end in (("a", claims.finish_failed), ("b", claims.finish_rejected)):
        model = new_model(name)
        claim = model.claim(model.submit("learn", "1"))
        with model.database.transaction() as session:
            end(session, claim, error)
        ended = model.job(claim)
        assert (ended.error, ended.output_version, ended.done) == (error, None, True)
        assert model.head() is None
        assert model.statuses() == {}
        model.submit("learn", "1")  # its labels are free again
