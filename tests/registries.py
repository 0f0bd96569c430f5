"""A registry with one model, and the life of its jobs in short: submitted, claimed, published."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from service.registry import claims, jobs, labels, models, publishing, versions
from service.registry.claims import Claim
from service.registry.database import Database
from service.registry.publishing import Origin, Publication
from service.registry.tables import JobRow, ModelRow, Operation, VersionRow
from tests.job_specs import job_spec
from tests.reports.made_up import quick_report

FILES = {
    "checkpoint.safetensors": {"sha256": "0" * 64, "bytes": 1, "media_type": "application/vnd.safetensors"},
    "decoder.onnx": {"sha256": "d" * 64, "bytes": 1, "media_type": "application/onnx"},
}


@dataclass(frozen=True)
class Registry:
    """One model, and what can happen to it, each in a transaction of its own."""

    database: Database
    model: ModelRow

    def submit(self, operation: Operation, *names: str, **changes: Any) -> JobRow:
        with self.database.transaction() as session:
            return submit(session, self.model, operation, *names, **changes)

    def try_claim(self, job: JobRow, *, worker: str = "here:1", lease_seconds: float = 60.0) -> Claim | None:
        with self.database.transaction() as session:
            return claims.claim(session, job.id, worker=worker, lease_seconds=lease_seconds)

    def claim(self, job: JobRow, *, lease_seconds: float = 60.0) -> Claim:
        claim = self.try_claim(job, lease_seconds=lease_seconds)
        assert claim is not None, f"{job.id} could not be claimed"
        return claim

    def publish(self, claim: Claim) -> VersionRow:
        with self.database.transaction() as session:
            return publishing.publish(session, claim, publication(session, claim))

    def publish_job(self, operation: Operation, *names: str) -> VersionRow:
        """The whole life of a job: submitted, claimed, published."""
        return self.publish(self.claim(self.submit(operation, *names)))

    def job(self, job: JobRow | Claim) -> JobRow:
        with self.database.reading() as session:
            return jobs.find(session, job.job_id if isinstance(job, Claim) else job.id)

    def version(self, number: int) -> VersionRow:
        with self.database.reading() as session:
            return versions.find(session, self.model, number)

    def head(self) -> int | None:
        with self.database.reading() as session:
            return models.find(session, self.model.id).head

    def statuses(self) -> dict[str, str]:
        with self.database.reading() as session:
            return {name: row.status for name, row in labels.find_all(session, self.model.id).items()}


def submit(
    session: Session,
    model: ModelRow,
    operation: Operation,
    *names: str,
    max_attempts: int = 3,
    **fields: Any,
) -> JobRow:
    spec = job_spec(operation, *names, **fields)
    model = jobs.lock_model(session, model)
    statuses = labels.projected_statuses(session, model)
    return jobs.submit(session, model, spec, statuses, max_attempts=max_attempts).job


def publication(session: Session, claim: Claim) -> Publication:
    """What a worker would bring: the labels held after the job, each in the slot it keeps for life."""
    model, job = models.get(session, claim.model_id), jobs.find(session, claim.job_id)
    known = labels.find_all(session, model.id)
    slots = {name: row.slot for name, row in known.items()}
    taken = [slot for slot in slots.values() if slot is not None]
    for name in job.labels if job.operation == "learn" else ():
        if job.retention == "temporary":
            slots[name] = None
        elif slots.get(name) is None:
            slots[name] = len(taken)
            taken.append(len(taken))
    held = {name for name, row in known.items() if row.status != "forgotten"}
    held = held - set(job.labels) if job.operation == "forget" else held | set(job.labels)
    return Publication(
        parent=model.head,
        labels={name: slots[name] for name in sorted(held)},
        origins={name: Origin(known[name].dataset if name in known else job.dataset) for name in held},
        files=FILES,
        parameters=10,
        widths={"encoder": [4], "decoder": [4]},
        report=quick_report(sorted(held), {}, guarantee=job.guarantee),
    )
