"""A version is measured again beside everything else, and what was measured is kept once."""

import pytest

from service.registry import claims, jobs, labels, reports, sweeping
from service.registry.claims import Claim
from service.registry.errors import (
    FencedOff,
    ModelHasNoVersion,
    UnknownReport,
    UnknownVersion,
    VersionRevoked,
)
from service.registry.reports import MeasuredReport
from service.registry.tables import ReportRow
from tests.registries import Registry

FULL = MeasuredReport("full", "f" * 64, {"level": "full"})
COST = {"seconds": 1.0}
REFUSAL = {"type": "acceptance_failed", "code": "acceptance_failed", "message": "no", "retryable": True}


def record(registry: Registry, claim: Claim) -> ReportRow:
    with registry.database.transaction() as session:
        return reports.record(session, claim, FULL, COST)


def test_evaluating_adds_a_report_and_no_version(registry: Registry) -> None:
    registry.done("learn", "1")
    job = registry.submit("evaluate")
    record(registry, registry.claimed(job))
    done = registry.job(job)
    assert (done.state, done.evaluated_version, done.output_version, done.cost) == (
        "succeeded",
        1,
        None,
        COST,
    )
    assert registry.head() == 1
    with registry.database.reading() as session:
        version = registry.version(1)
        fullest, quick = (reports.find_for_version(session, version, level) for level in (None, "quick"))
        assert (fullest.level, fullest.job_id, fullest.sha256) == ("full", job.id, FULL.sha256)
        assert (quick.level, quick.job_id, quick.report) == ("quick", version.job_id, version.report)
        assert reports.find_for_job(session, done) == fullest


def test_evaluating_waits_for_no_change_and_keeps_none_waiting(registry: Registry) -> None:
    registry.done("learn", "1")
    running = registry.claimed(registry.submit("learn", "2"))
    first, second = registry.submit("evaluate"), registry.submit("evaluate")
    waiting = registry.submit("learn", "3")
    one, other = registry.claimed(first), registry.claimed(second)
    assert registry.claim(waiting) is None, "changes run one after the other, as ever"
    registry.publish(running)
    with registry.database.reading() as session:
        assert sweeping.find_next_of_model(session, registry.model.id) == waiting.id
    registry.publish(registry.claimed(waiting))
    for claim in (one, other):
        record(registry, claim)
    assert registry.head() == 3


def test_evaluating_changes_no_labels_future(registry: Registry) -> None:
    registry.done("learn", "1", "2")
    registry.submit("evaluate")
    registry.submit("forget", "1")
    with registry.database.reading() as session:
        assert labels.projected_statuses(session, registry.model) == {"1": "forgotten", "2": "permanent"}


def test_the_newest_full_report_is_the_one_that_counts(registry: Registry) -> None:
    registry.done("learn", "1")
    first, second = registry.submit("evaluate"), registry.submit("evaluate")
    claims_ = [registry.claimed(job) for job in (first, second)]
    for claim in claims_[::-1]:
        record(registry, claim)
    with registry.database.reading() as session:
        assert reports.find_for_version(session, registry.version(1)).job_id == second.id
        assert reports.find_for_job(session, registry.job(first)).job_id == first.id


def test_a_report_is_kept_once(registry: Registry) -> None:
    registry.done("learn", "1")
    claim = registry.claimed(registry.submit("evaluate"))
    record(registry, claim)
    with pytest.raises(FencedOff):
        record(registry, claim)


def test_a_cancel_wins_over_a_late_report(registry: Registry) -> None:
    registry.done("learn", "1")
    claim = registry.claimed(registry.submit("evaluate"))
    with registry.database.transaction() as session:
        jobs.cancel(session, claim.job_id)
    with pytest.raises(FencedOff):
        record(registry, claim)
    with registry.database.transaction() as session:
        claims.finish_cancelled(session, claim)
    with registry.database.reading() as session, pytest.raises(UnknownReport, match="cancelled"):
        reports.find_for_job(session, registry.job(claim))


def test_what_holds_a_forgotten_label_is_not_measured(registry: Registry) -> None:
    with pytest.raises(ModelHasNoVersion):
        registry.submit("evaluate")
    registry.done("learn", "1", "2")
    registry.done("forget", "1")
    with pytest.raises(VersionRevoked):
        registry.submit("evaluate", evaluated_version=1)
    with pytest.raises(UnknownVersion):
        registry.submit("evaluate", evaluated_version=9)
    assert registry.submit("evaluate").evaluated_version == 2


def test_a_version_revoked_meanwhile_gets_no_report(registry: Registry) -> None:
    registry.done("learn", "1", "2")
    claim = registry.claimed(registry.submit("evaluate"))
    registry.done("forget", "1")
    with pytest.raises(VersionRevoked):
        record(registry, claim)
    assert registry.job(claim).state == "running", "nothing was written"


def test_a_refused_candidates_report_is_kept_with_its_job(registry: Registry) -> None:
    claim = registry.claimed(registry.submit("learn", "1"))
    measured = MeasuredReport("quick", "e" * 64, {"level": "quick"})
    with registry.database.transaction() as session:
        reports.record_refused(session, claim, REFUSAL, measured, COST)
    job = registry.job(claim)
    assert (job.state, job.error, job.cost) == ("rejected", REFUSAL, COST)
    with registry.database.reading() as session:
        assert reports.find_for_job(session, job).report == {"level": "quick"}
    assert registry.head() is None


def test_a_version_without_a_full_report_says_how_to_get_one(registry: Registry) -> None:
    version = registry.done("learn", "1")
    with registry.database.reading() as session, pytest.raises(UnknownReport, match=r"pages/evaluate"):
        reports.find_for_version(session, version, "full")
