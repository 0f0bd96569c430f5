"""Issue receipts: build the statement of a forget from the database, sign it and store it.

A receipt is an in-toto statement in a DSSE envelope. It says for each store, such as weights, older versions
or caches, what the forget did there.

Publishing a forget creates a receipt row without an envelope: the receipt is due. It is signed by the sweeper
or by the first request for it, whichever comes first. The bytes are the same, because the statement depends
only on the rows and the manifest. With a purge, or a deletion of uploaded images, the receipt is due once
every file is deleted.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from service import failpoints
from service.receipts.erasure import ForgetHistory, erasure_by_store, older_state
from service.receipts.signing import SigningKey
from service.receipts.statement import (
    PAYLOAD_TYPE,
    Also,
    DeletedImages,
    Digest,
    Elsewhere,
    ForgetRequest,
    ImageErasureRecord,
    ModelIdentity,
    OlderVersion,
    ParentVersion,
    Predicate,
    PurgeRecord,
    ReceiptFigures,
    Statement,
    StoredFile,
    StrategyPackage,
    Subject,
    encode_receipt,
)
from service.registry import export_clearing, jobs, labels, snapshots, versions
from service.registry.artifacts import Artifacts
from service.registry.database import Database
from service.registry.errors import ArtifactUnreadable, NoReceipt, ReceiptNotReady, RegistryError
from service.registry.tables import (
    ImageErasureRow,
    JobRow,
    ModelRow,
    PurgeRow,
    ReceiptRow,
    VersionDeletionRow,
    VersionRow,
)
from service.registry.version_files import MANIFEST

MEANING = (
    "The process named here was performed, and the figures are what its tests measured. "
    "Nothing here proves that no trace is left."
)
KNOWN_TRACE = (
    "The weights descend from a network that had learned the labels, or were trained on its draws. Searches "
    "with real images of a label have found more of it in such weights than in weights that never learned it."
)
"""Added to the meaning where the guarantee is approximate (decisions 0153, 0163 and 0168)."""


def find_receipt(session: Session, job: JobRow) -> str | None:
    """Return the job's signed receipt; None if it has yet to be signed. Raises NoReceipt, ReceiptNotReady."""
    if job.operation != "forget":
        raise NoReceipt(job.id, f"it is a {job.operation} job")
    if not job.done:
        raise ReceiptNotReady(job.id, f"it is {job.public_state}")
    if job.state != "succeeded":
        raise NoReceipt(job.id, f"it ended as {job.state}")
    if _is_purging(session, job):
        raise ReceiptNotReady(job.id, "the deletion of its data is pending")
    return session.get_one(ReceiptRow, job.id).envelope


def list_jobs_with_receipt_due(session: Session) -> list[str]:
    """List the jobs whose receipt can be signed now: nothing that it says is deleted is still there."""
    unsigned = session.scalars(
        select(ReceiptRow.job_id).where(ReceiptRow.envelope.is_(None), ReceiptRow.logged_at.is_not(None))
    )
    return [job_id for job_id in unsigned if not _is_waiting(session, job_id)]


def sign_receipt(database: Database, artifacts: Artifacts, key: SigningKey, job_id: str) -> str | None:
    """Sign the job's receipt if it is not signed yet, and return it.

    None if a purge has begun meanwhile, or if the erasure log does not have the forget yet.
    """
    with database.transaction() as session:
        receipt = session.get_one(ReceiptRow, job_id, with_for_update=True, populate_existing=True)
        if receipt.envelope is None and receipt.logged_at and not _is_waiting(session, job_id):
            failpoints.reach("receipt.before_sign")
            payload = build_statement(session, artifacts, job_id).to_payload()
            receipt.envelope = encode_receipt(key.sign(payload, PAYLOAD_TYPE)).decode()
        return receipt.envelope


def build_statement(session: Session, artifacts: Artifacts, job_id: str) -> Statement:
    """Build the statement of the forget that the job performed.

    It depends only on the rows and the manifest, not on the time of signing.
    """
    job = jobs.find(session, job_id)
    model = session.get_one(ModelRow, job.model_id)
    assert job.output_version is not None, "a forget that succeeded has published a version"
    version = versions.find(session, model, job.output_version)
    manifest = _manifest(artifacts, version)
    history = replace(
        _history(session, model, job, version),
        is_in_bucket=artifacts.store.is_bucket,
        has_fisher_stored=_has_fisher_stored(manifest),
    )
    return Statement(
        subject=[
            Subject(name=name, digest=Digest(sha256=file["sha256"]))
            for name, file in sorted(version.files.items())
        ],
        predicate=Predicate(
            meaning=MEANING if history.guarantee == "exact" else f"{MEANING} {KNOWN_TRACE}",
            job=job.id,
            model=ModelIdentity(id=model.id, name=model.name),
            version=version.number,
            parent=_parent(history.parent),
            request=_request(job, history),
            seed_used=manifest.get("seed"),
            code=_code(manifest),  # release and hash of the worker's source files
            package=_package(manifest),
            guarantee=history.guarantee,  # exact or approximate
            figures=ReceiptFigures.of(history.report),
            erasure=erasure_by_store(history),
            older_versions=[_older_version(one) for one in history.older],
            purge=None if history.purge is None else _purge_record(history.purge),
            image_erasure=None if history.image_erasure is None else _erasure_record(history.image_erasure),
            elsewhere=None if job.elsewhere is None else Elsewhere.model_validate(job.elsewhere),
            accepted_at=job.created_at,
            published_at=job.finished_at,
        ),
    )


def _code(manifest: Mapping[str, Any]) -> str | None:
    """Return the code that computed the version; all of it, in order, if the job was resumed by another."""
    codes = dict.fromkeys(one["code"] for one in manifest.get("environments", []))
    return ", then ".join(codes) or manifest.get("code")


def _package(manifest: Mapping[str, Any]) -> StrategyPackage | None:
    """Return the package that brought the strategy; None if it is built in."""
    package = manifest.get("packages", {}).get("strategy")
    return None if package is None else StrategyPackage.model_validate(package)


def _has_fisher_stored(manifest: Mapping[str, Any]) -> bool | None:
    """Whether the version is stored with Fisher information; None if the manifest does not tell.

    Release 0.1.0 stored it. Its priors had one Gaussian, so its specs do not say how many (decisions 0148
    and 0159).
    """
    spec = manifest.get("spec")
    return None if spec is None else "components" not in spec


def _is_purging(session: Session, job: JobRow) -> bool:
    """Whether something that the receipt says is deleted may still be there.

    That is: files of a purge, uploaded images, shards of exports, or the job's snapshot.
    """
    purge = session.get(PurgeRow, job.id, populate_existing=True)
    erasure = session.get(ImageErasureRow, job.id, populate_existing=True)
    if any(deletion is not None and deletion.state != "done" for deletion in (purge, erasure)):
        return True
    if any(export.cleared_at is None for export in export_clearing.find_forgotten_by(session, job)):
        return True
    return snapshots.find(session, job.id) is not None


def _is_waiting(session: Session, job_id: str) -> bool:
    """Whether the receipt cannot be signed yet. What is deleted later changes no signed receipt."""
    job = jobs.find(session, job_id)
    return _is_purging(session, job) or _is_deleting_versions(session, job)


def _is_deleting_versions(session: Session, job: JobRow) -> bool:
    """Whether files of other versions of the model may still be there, although its rows say otherwise.

    A client deleted these versions, or another forget purges them.
    """
    deletion = select(VersionDeletionRow.number).where(
        VersionDeletionRow.model_id == job.model_id, VersionDeletionRow.state == "pending"
    )
    purge = select(PurgeRow.job_id).join(JobRow, JobRow.id == PurgeRow.job_id)
    purge = purge.where(JobRow.model_id == job.model_id, PurgeRow.state == "pending")
    return any(session.scalar(pending.limit(1)) is not None for pending in (deletion, purge))


def _history(session: Session, model: ModelRow, job: JobRow, version: VersionRow) -> ForgetHistory:
    first = versions.find_first_that_learned(session, model.id, job.labels)
    if first is not None and first > version.number:
        first = (
            None  # a temporary label that became permanent after this forget: not what the receipt is about
        )
    before = select(VersionRow).where(VersionRow.model_id == model.id, VersionRow.number < version.number)
    return ForgetHistory(
        job=job,
        version=version,
        parent=None if version.parent is None else versions.find(session, model, version.parent),
        older=[
            one
            for one in session.scalars(before.order_by(VersionRow.number))
            if set(job.labels) & set(one.labels) or (first is not None and one.number >= first)
        ],
        first_learned=first,
        datasets=sorted(
            {dataset for dataset, _ in labels.find_sources(session, model, job.labels, before=version.number)}
        ),
        purge=session.get(PurgeRow, job.id),
        image_erasure=session.get(ImageErasureRow, job.id),
        exports=export_clearing.find_forgotten_by(session, job),
    )


def _manifest(artifacts: Artifacts, version: VersionRow) -> Mapping[str, Any]:
    """The version's manifest.json; empty if it cannot be read any more.

    Raises ArtifactUnreadable if the whole store cannot be used now.
    """
    try:
        manifest: dict[str, Any] = json.loads(artifacts.read(version.files[MANIFEST]["sha256"]))
    except (RegistryError, KeyError, ValueError) as error:
        if isinstance(error, ArtifactUnreadable) and artifacts.fails_as_a_whole(error):
            raise
        return {}
    return manifest


def _parent(parent: VersionRow | None) -> ParentVersion | None:
    if parent is None:
        return None
    return ParentVersion(version=parent.number, manifest_sha256=parent.files.get(MANIFEST, {}).get("sha256"))


def _request(job: JobRow, history: ForgetHistory) -> ForgetRequest:
    purge = history.purge
    return ForgetRequest(
        labels=sorted(job.labels),
        strategy=job.strategy,
        params=job.params,
        seed=job.seed,
        acceptance=job.acceptance,
        purge=purge is not None and purge.reason == "requested",
        reference=job.reference,
        also=None if history.image_erasure is None else Also(datasets=True),
    )


def _older_version(version: VersionRow) -> OlderVersion:
    return OlderVersion(
        version=version.number,
        labels=sorted(version.labels),
        state=older_state(version),
        files={name: file["sha256"] for name, file in sorted(version.files.items())},
    )


def _purge_record(purge: PurgeRow) -> PurgeRecord:
    return PurgeRecord(
        reason=purge.reason,
        deleted=_stored_files(purge.keys),
        kept=_stored_files(purge.kept),
        finished_at=purge.finished_at,
    )


def _erasure_record(erasure: ImageErasureRow) -> ImageErasureRecord:
    assert erasure.finished_at is not None, "its images are deleted"
    return ImageErasureRecord(
        labels=erasure.labels,
        datasets=[DeletedImages(**entry) for entry in erasure.datasets],
        finished_at=erasure.finished_at,
    )


def _stored_files(files: Sequence[Mapping[str, Any]]) -> list[StoredFile]:
    return [StoredFile(**file) for file in files]
