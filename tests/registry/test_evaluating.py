"""An evaluate job measures a version while other jobs run, and its report is recorded once."""

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
from tests.reports.made_up import full_report, quick_report

FULL = MeasuredReport("full", "f" * 64, full_report(quick_report(["1"], {})))
COST = {"seconds": 1.0}
REJECTION = {"type": "acceptance_failed", "code": "acceptance_failed", "message": "no", "retryable": True}


def record(registry: Registry, claim: Claim) -> ReportRow:
    with registry.database.transaction() as session:
        return reports.record(session, claim, FULL, COST)


def test_evaluating_adds_a_report_and_no_version(registry: Registry) -> None:
    registry.publish_job("learn", "1")
    job = registry.submit("evaluate")
    record(registry, registry.claim(job))
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
        assert (quick.level, quick.job_id, quick.document) == ("quick", version.job_id, version.report)
        assert reports.find_for_job(session, done) == fullest


def test_evaluate_jobs_and_changes_do_not_wait_for_each_other(registry: Registry) -> None:
    registry.publish_job("learn", "1")
    running = registry.claim(registry.submit("learn", "2"))
    first, second = registry.submit("evaluate"), registry.submit("evaluate")
    waiting = registry.submit("learn", "3")
    one, other = registry.claim(first), registry.claim(second)
    assert registry.try_claim(waiting) is None, "changes of a model run one after the other"
    registry.publish(running)
    with registry.database.reading() as session:
        assert sweeping.find_next_of_model(session, registry.model.id) == (waiting.id, "default")
    registry.publish(registry.claim(waiting))
    for claim in (one, other):
        record(registry, claim)
    assert registry.head() == 3


def test_a_queued_evaluate_job_changes_no_projected_status(registry: Registry) -> None:
    registry.publish_job("learn", "1", "2")
    registry.submit("evaluate")
    registry.submit("forget", "1")
    with registry.database.reading() as session:
        assert labels.projected_statuses(session, registry.model) == {"1": "forgotten", "2": "permanent"}


def test_the_full_report_of_a_version_is_that_of_its_newest_evaluate_job(registry: Registry) -> None:
    registry.publish_job("learn", "1")
    first, second = registry.submit("evaluate"), registry.submit("evaluate")
    claims_ = [registry.claim(job) for job in (first, second)]
    for claim in claims_[::-1]:
        record(registry, claim)
    with registry.database.reading() as session:
        assert reports.find_for_version(session, registry.version(1)).job_id == second.id
        assert reports.find_for_job(session, registry.job(first)).job_id == first.id


def test_a_report_is_recorded_once(registry: Registry) -> None:
    registry.publish_job("learn", "1")
    claim = registry.claim(registry.submit("evaluate"))
    record(registry, claim)
    with pytest.raises(FencedOff):
        record(registry, claim)


def test_no_report_is_recorded_after_a_cancel_was_accepted(registry: Registry) -> None:
    registry.publish_job("learn", "1")
    claim = registry.claim(registry.submit("evaluate"))
    with registry.database.transaction() as session:
        jobs.cancel(session, claim.job_id)
    with pytest.raises(FencedOff):
        record(registry, claim)
    with registry.database.transaction() as session:
        claims.finish_cancelled(session, claim)
    with registry.database.reading() as session, pytest.raises(UnknownReport, match="cancelled"):
        reports.find_for_job(session, registry.job(claim))


def test_a_revoked_version_cannot_be_evaluated(registry: Registry) -> None:
    with pytest.raises(ModelHasNoVersion):
        registry.submit("evaluate")
    registry.publish_job("learn", "1", "2")
    registry.publish_job("forget", "1")
    with pytest.raises(VersionRevoked):
        registry.submit("evaluate", evaluated_version=1)
    with pytest.raises(UnknownVersion):
        registry.submit("evaluate", evaluated_version=9)
    assert registry.submit("evaluate").evaluated_version == 2


def test_a_version_that_is_revoked_during_its_evaluation_gets_no_report(registry: Registry) -> None:
    registry.publish_job("learn", "1", "2")
    claim = registry.claim(registry.submit("evaluate"))
    registry.publish_job("forget", "1")
    with pytest.raises(VersionRevoked):
        record(registry, claim)
    assert registry.job(claim).state == "running", "nothing was written"


def test_the_report_of_a_rejected_candidate_is_found_by_its_job(registry: Registry) -> None:
    claim = registry.claim(registry.submit("learn", "1"))
    measured = MeasuredReport("quick", "e" * 64, quick_report(["1"], {}))
    with registry.database.transaction() as session:
        reports.record_rejected(session, claim, REJECTION, measured, COST)
    job = registry.job(claim)
    assert (job.state, job.error, job.cost) == ("rejected", REJECTION, COST)
    with registry.database.reading() as session:
        assert reports.find_for_job(session, job).report == measured.report
    assert registry.head() is None


def test_the_error_for_a_version_without_a_full_report_says_how_to_get_one(registry: Registry) -> None:
    version = registry.publish_job("learn", "1")
    with registry.database.reading() as session, pytest.raises(UnknownReport, match=r"pages/evaluate"):
        reports.find_for_version(session, version, "full")
