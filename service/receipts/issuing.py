"""Receipts: what was asked, what was done and measured, and what happened in every store; signed, per forget.

A forget's publication leaves a row that says a receipt is due. The sweeper signs what is due, or the request
that asks for it first: the same bytes either way, for the statement is a function of the rows.
With a purge it is due once every file is gone.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.receipts.erasure import History, stores
from service.receipts.signing import SigningKey
from service.receipts.statement import (
    PAYLOAD_TYPE,
    Asked,
    Digest,
    Key,
    Named,
    OlderVersion,
    Parent,
    Predicate,
    Purged,
    Statement,
    Subject,
    receipt_bytes,
)
from service.registry import jobs, versions
from service.registry.artifacts import FolderArtifacts
from service.registry.database import Database
from service.registry.errors import NoReceipt, ReceiptNotReady, RegistryError
from service.registry.tables import JobRow, ModelRow, PurgeRow, ReceiptRow, VersionRow
from service.registry.version_files import MANIFEST

SAYS = (
    "The process named here was performed, and the figures are what its tests measured. "
    "Nothing here proves that no trace is left."
)
GROUP = ("accuracy", "n", "interval", "rejected", "reason")


def found(session: Session, job: JobRow) -> str | None:
    """The receipt of the job; None while it is due and unsigned. Raises NoReceipt, ReceiptNotReady."""
    if job.operation != "forget":
        raise NoReceipt(job.id, f"it is a {job.operation}")
    if not job.done:
        raise ReceiptNotReady(job.id, f"it is {job.shown_state}")
    if job.state != "succeeded":
        raise NoReceipt(job.id, f"it ended as {job.state}")
    if _purging(session, job.id):
        raise ReceiptNotReady(job.id, "the deletion of its data is pending")
    return session.get_one(ReceiptRow, job.id).envelope


def due(session: Session) -> list[str]:
    """Jobs whose receipt can be signed now."""
    unsigned = session.scalars(select(ReceiptRow.job_id).where(ReceiptRow.envelope.is_(None)))
    return [job_id for job_id in unsigned if not _purging(session, job_id)]


def issue(database: Database, artifacts: FolderArtifacts, key: SigningKey, job_id: str) -> str | None:
    """Sign the job's receipt unless somebody did: its bytes. None when a purge has begun meanwhile."""
    with database.transaction() as session:
        receipt = session.get_one(ReceiptRow, job_id, with_for_update=True, populate_existing=True)
        if receipt.envelope is None and not _purging(session, job_id):
            payload = statement(session, artifacts, job_id).to_payload()
            receipt.envelope = receipt_bytes(key.sign(payload, PAYLOAD_TYPE)).decode()
        return receipt.envelope


def statement(session: Session, artifacts: FolderArtifacts, job_id: str) -> Statement:
    """What is said of the forget that job did: a function of the rows and the manifest, without a clock."""
    job = jobs.find(session, job_id)
    model = session.get_one(ModelRow, job.model_id)
    assert job.output_version is not None, "a forget that succeeded has published"
    version = versions.find(session, model, job.output_version)
    history = _history(session, model, job, version)
    manifest = _manifest(artifacts, version)
    purge = session.get(PurgeRow, job_id)
    return Statement(
        subject=[
            Subject(name=name, digest=Digest(sha256=file["sha256"]))
            for name, file in sorted(version.files.items())
        ],
        predicate=Predicate(
            says=SAYS,
            job=job.id,
            model=Named(id=model.id, name=model.name),
            version=version.number,
            parent=_parent(history.parent),
            asked=Asked(
                labels=sorted(job.labels),
                strategy=job.strategy,
                params=job.params,
                seed=job.seed,
                acceptance=job.acceptance,
                purge=purge is not None and purge.reason == "requested",
            ),
            seed_used=manifest.get("seed"),
            code=manifest.get("code"),
            guarantee=history.guarantee,
            figures=_figures(version.report),
            stores=stores(history),
            older_versions=[_older(one) for one in history.older],
            purge=None if purge is None else _purged(purge),
            accepted_at=job.created_at,
            published_at=job.finished_at,
        ),
    )


def _purging(session: Session, job_id: str) -> bool:
    purge = session.get(PurgeRow, job_id, populate_existing=True)
    return purge is not None and purge.state != "done"


def _history(session: Session, model: ModelRow, job: JobRow, version: VersionRow) -> History:
    first = versions.find_first_that_learned(session, model.id, job.labels)
    if first is not None and first > version.number:
        first = None  # learned since, which is none of this forget's business
    before = select(VersionRow).where(VersionRow.model_id == model.id, VersionRow.number < version.number)
    return History(
        job=job,
        version=version,
        parent=None if version.parent is None else versions.find(session, model, version.parent),
        older=[
            one
            for one in session.scalars(before.order_by(VersionRow.number))
            if set(job.labels) & set(one.labels) or (first is not None and one.number >= first)
        ],
        first_learned=first,
        datasets=_datasets(session, job, version),
        purge=session.get(PurgeRow, job.id),
    )


def _datasets(session: Session, job: JobRow, version: VersionRow) -> list[str]:
    """What the labels were learnt from, however often."""
    learns = select(JobRow.dataset, JobRow.labels).where(
        JobRow.model_id == job.model_id,
        JobRow.operation == "learn",
        JobRow.output_version < version.number,
    )
    return sorted({name for name, learned in session.execute(learns) if set(learned) & set(job.labels)})


def _manifest(artifacts: FolderArtifacts, version: VersionRow) -> Mapping[str, Any]:
    """What the worker wrote down beside the files; nothing where it cannot be read any more."""
    try:
        manifest: dict[str, Any] = json.loads(artifacts.read(version.files[MANIFEST]["sha256"]))
    except (RegistryError, KeyError, ValueError):
        return {}
    return manifest


def _parent(parent: VersionRow | None) -> Parent | None:
    if parent is None:
        return None
    return Parent(version=parent.number, manifest_sha256=parent.files.get(MANIFEST, {}).get("sha256"))


def _figures(report: Mapping[str, Any]) -> dict[str, Any]:
    """Of the version's report: the judge, what is retained in all, what is forgotten label by label, and the
    gate's verdict on each criterion."""
    retained, forgotten = report.get("retained", {}), report.get("forgotten", {})
    return {
        "level": report.get("level"),
        "judge": report.get("judge", {}),
        "retained": _group(retained),
        "forgotten": {**_group(forgotten), "labels": forgotten.get("labels", {})},
        "criteria": report.get("criteria", []),
    }


def _group(group: Mapping[str, Any]) -> dict[str, Any]:
    return {name: group[name] for name in GROUP if name in group}


def _older(version: VersionRow) -> OlderVersion:
    return OlderVersion(
        version=version.number,
        lists=sorted(version.labels),
        state="purged" if version.purged_by else "revoked" if version.revoked_by else "kept",
        files={name: file["sha256"] for name, file in sorted(version.files.items())},
    )


def _purged(purge: PurgeRow) -> Purged:
    return Purged(
        reason=purge.reason,
        keys_gone=_keys(purge.keys),
        keys_kept=_keys(purge.kept),
        finished_at=purge.finished_at,
    )


def _keys(files: Sequence[Mapping[str, Any]]) -> list[Key]:
    return [Key(**file) for file in files]
