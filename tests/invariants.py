"""What must be true of an instance after every fault: `find_violations` lists what is not.

I1 every accepted job has ended, once the instance had the time for it
I2 a job publishes at most one version; a job that did not succeed publishes none
I3 the versions of a model form one chain without a gap, and jobs publish in the order they were accepted
I4 every file of a version that was not purged is there, with the sha256 that its row names
I5 whatever clients saw of a version is what the version is now: none was ever published by half
I6 no job is running whose lease expired long ago
I7 no temporary file is older than the age at which the service deletes them
I8 no job has had more attempts than it may have
I9 a resize that follows a job runs only after that has succeeded, and is cancelled if it ended otherwise
I10 an export that succeeded has each of its shards once; one whose files were deleted has none

Besides: forgotten labels are in no later version, receipts verify, purged files and
deleted images are gone, finished jobs have no snapshot after a sweep, and an SQLite file is sound.
"""

import time
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from itertools import pairwise

import httpx2
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from service.receipts.signing import load_signing_key
from service.receipts.verification import CannotVerify, NotGenuine, verify_receipt
from service.registry.artifact_references import INTERRUPTED_SECONDS, find_referenced
from service.registry.artifacts import Artifacts
from service.registry.database import Database, now
from service.registry.errors import RegistryError
from service.registry.exports import plan_of
from service.registry.opening import open_artifacts
from service.registry.store import Stored
from service.registry.tables import (
    CLAIMED_STATES,
    INDEPENDENT,
    DatasetDeletionRow,
    ExportRow,
    ExportShardRow,
    JobRow,
    LabelRow,
    ModelRow,
    PurgeRow,
    ReceiptRow,
    SnapshotRow,
    Timestamp,
    VersionRow,
)
from service.registry.version_files import DESCRIPTIVE_FILES
from service.settings import Settings

SWEEPS_TO_TAKE_BACK_A_LEASE = 2
LATE_SECONDS = 1.0
"""How much later than two sweeps a lease may be taken back on a busy machine."""
PURGE_SECONDS = 1.0
"""How long a purge may take from its first deletion to its end. A file stored meanwhile may be there."""


@dataclass(frozen=True)
class Seen:
    """What a client saw of a version at some moment."""

    model_id: str
    number: int
    what: str
    """The name of a file, or the path of an image."""
    sha256: str


@dataclass(frozen=True)
class Evidence:
    """What the clients of an instance were told while the faults happened."""

    accepted: Collection[str] = ()
    """The ids of the jobs that the API answered with 202."""
    seen: Collection[Seen] = ()


@dataclass
class State:
    """The rows and files of an instance, at one moment."""

    deployment: Settings
    models: list[ModelRow] = field(default_factory=list)
    jobs: dict[str, JobRow] = field(default_factory=dict)
    versions: list[VersionRow] = field(default_factory=list)
    labels: list[LabelRow] = field(default_factory=list)
    purges: dict[str, PurgeRow] = field(default_factory=dict)
    image_deletions: list[DatasetDeletionRow] = field(default_factory=list)
    receipts: dict[str, str | None] = field(default_factory=dict)
    snapshots: list[SnapshotRow] = field(default_factory=list)
    exports: list[ExportRow] = field(default_factory=list)
    shards: list[ExportShardRow] = field(default_factory=list)
    referenced: set[str] = field(default_factory=set)
    overdue: list[str] = field(default_factory=list)

    @cached_property
    def artifacts(self) -> Artifacts:
        return open_artifacts(self.deployment)

    @cached_property
    def files(self) -> dict[str, Stored]:
        """{sha256: the artifact, or what is left of it in a bucket with versions}."""
        return {file.last_part: file for file in self.artifacts.files(leftovers=True)}

    def versions_of(self, model: ModelRow) -> list[VersionRow]:
        """Return the versions of the model, oldest first."""
        return [version for version in self.versions if version.model_id == model.id]


def check(
    deployment: Settings,
    database: Database,
    evidence: Evidence | None = None,
    *,
    ended: bool = False,
    swept: bool = False,
) -> None:
    """Fail with every violation.

    ended: no job may be unfinished, and every receipt must be signed.
    swept: a sweeper has run until now, so that no lease may have expired long ago.
    """
    violations = find_violations(deployment, database, evidence or Evidence(), ended=ended, swept=swept)
    assert not violations, "\n".join(["the instance broke its rules:", *violations])


def find_violations(
    deployment: Settings, database: Database, evidence: Evidence, *, ended: bool, swept: bool
) -> list[str]:
    """Return a line for every rule that does not hold."""
    state = _read(deployment, database)
    return [
        *(_unfinished(state) if ended else ()),
        *_lost(state, evidence),
        *_publications(state),
        *_chains(state),
        *_files(state),
        *_sightings(state, evidence),
        *(_expired_leases(state) if swept else ()),
        *_temporary_files(state),
        *_attempts(state),
        *_followers(state),
        *_exports(state),
        *_forgotten_labels(state),
        *_receipts(state, ended=ended),
        *_purges(state),
        *_image_deletions(state),
        *(_snapshots(state) if swept else ()),
        *_soundness(database),
    ]


def find_drawable(url: str, database: Database) -> list[str]:
    """Return a line for every forgotten label or revoked version that the API at this address still draws."""
    found = []
    with database.reading() as session:
        models = session.scalars(select(ModelRow).where(ModelRow.deleted_at.is_(None))).all()
        forgotten = session.scalars(select(LabelRow).where(LabelRow.status == "forgotten")).all()
        revoked = session.scalars(select(VersionRow).where(VersionRow.revoked_by.is_not(None))).all()
    heads = {model.id: model.head for model in models}
    drawings = [(row.model_id, heads[row.model_id], row.name) for row in forgotten if row.model_id in heads]
    drawings += [
        (version.model_id, version.number, label)
        for version in revoked
        if version.model_id in heads
        for label in list(version.labels)[:1]
    ]
    for model_id, number, label in drawings:
        path = f"/v1/models/{model_id}/versions/{number}/images/{label}/0.png"
        status = httpx2.get(url + path, timeout=30).status_code
        if status in (200, 500):
            found.append(f"GET {path} of a forgotten label or a revoked version gave {status}")
    return found


def _read(deployment: Settings, database: Database) -> State:
    with database.reading() as session:
        jobs = session.scalars(select(JobRow).order_by(JobRow.sequence)).all()
        return State(
            deployment,
            models=list(session.scalars(select(ModelRow))),
            jobs={job.id: job for job in jobs},
            versions=list(
                session.scalars(select(VersionRow).order_by(VersionRow.model_id, VersionRow.number))
            ),
            labels=list(session.scalars(select(LabelRow))),
            purges={purge.job_id: purge for purge in session.scalars(select(PurgeRow))},
            image_deletions=list(session.scalars(select(DatasetDeletionRow))),
            receipts={receipt.job_id: receipt.envelope for receipt in session.scalars(select(ReceiptRow))},
            snapshots=list(session.scalars(select(SnapshotRow))),
            exports=list(session.scalars(select(ExportRow))),
            shards=list(session.scalars(select(ExportShardRow))),
            referenced=find_referenced(session),
            overdue=_find_overdue(session, deployment),
        )


def _find_overdue(session: Session, deployment: Settings) -> list[str]:
    moment = session.scalar(select(now()))
    moment = Timestamp().process_result_value(moment, session.get_bind().dialect)
    assert moment is not None
    patience = timedelta(seconds=SWEEPS_TO_TAKE_BACK_A_LEASE * deployment.sweep_seconds + LATE_SECONDS)
    rows = session.scalars(select(JobRow).where(JobRow.state.in_(CLAIMED_STATES)))
    return [job.id for job in rows if job.lease_until and job.lease_until < moment - patience]


def _unfinished(state: State) -> Iterator[str]:
    """I1."""
    for job in state.jobs.values():
        if not job.done:
            where = f"{job.state}, attempt {job.attempt}, {job.progress}"
            yield f"I1: {job.id} ({job.operation}) has not ended: {where}"


def _lost(state: State, evidence: Evidence) -> Iterator[str]:
    """I1: a job that was accepted has a row."""
    for job_id in evidence.accepted:
        if job_id not in state.jobs:
            yield f"I1: {job_id} was accepted, and has no row"


def _publications(state: State) -> Iterator[str]:
    """I2."""
    published = Counter(version.job_id for version in state.versions)
    numbers = {version.job_id: version.number for version in state.versions}
    for job_id, count in published.items():
        if count > 1 or job_id not in state.jobs:
            yield f"I2: {job_id} published {count} versions"
    for job in state.jobs.values():
        makes_one = job.state == "succeeded" and job.operation not in INDEPENDENT
        if makes_one != (job.id in published):
            yield f"I2: {job.id} ({job.operation}) is {job.state}, with {published[job.id]} versions"
        elif makes_one and job.output_version != numbers[job.id]:
            yield f"I2: {job.id} names version {job.output_version}, and published {numbers[job.id]}"


def _chains(state: State) -> Iterator[str]:
    """I3."""
    for model in state.models:
        versions = state.versions_of(model)
        if [version.number for version in versions] != list(range(1, len(versions) + 1)):
            yield f"I3: {model.name} has the versions {[version.number for version in versions]}"
        if model.head != (len(versions) or None) and model.deleted_at is None:
            yield f"I3: the head of {model.name} is {model.head}, of {len(versions)} versions"
        for one, next_one in pairwise(versions):
            if next_one.parent != one.number:
                yield f"I3: version {next_one.number} of {model.name} has the parent {next_one.parent}"
            if state.jobs[one.job_id].sequence > state.jobs[next_one.job_id].sequence:
                yield f"I3: {next_one.job_id} of {model.name} published after {one.job_id}, accepted later"


def _files(state: State) -> Iterator[str]:
    """I4."""
    deleted = {model.id for model in state.models if model.deleted_at is not None}
    checked: dict[str, str | None] = {}
    for version in state.versions:
        for name, file in version.files.items():
            is_erased = version.purged_by is not None or version.deleted_at is not None
            is_gone = is_erased and name not in DESCRIPTIVE_FILES
            if is_gone or version.model_id in deleted:
                continue
            sha256 = file["sha256"]
            if sha256 not in checked:
                checked[sha256] = _fault(state.artifacts, sha256)
            if fault := checked[sha256]:
                yield f"I4: {name} of version {version.number} of {version.model_id} is {fault}"
    # The snapshot of a job that has ended is being deleted: its file first, then its row.
    going = {one.sha256 for one in state.snapshots if state.jobs[one.job_id].done}
    # The same holds for the shards of an export without a result.
    ended = {one.id for one in state.exports if one.done and (one.state != "succeeded" or one.deleted_at)}
    going |= {one.sha256 for one in state.shards if one.export_id in ended}
    for sha256 in state.referenced - set(checked) - going:
        if fault := _fault(state.artifacts, sha256):
            yield f"I4: artifact {sha256}, which a row refers to, is {fault}"


def _fault(artifacts: Artifacts, sha256: str) -> str | None:
    try:
        artifacts.read(sha256)
    except RegistryError as error:
        return str(error)
    return None


def _sightings(state: State, evidence: Evidence) -> Iterator[str]:
    """I5."""
    versions = {(version.model_id, version.number): version for version in state.versions}
    images: dict[tuple[str, int, str], str] = {}
    for seen in evidence.seen:
        version = versions.get((seen.model_id, seen.number))
        if version is None:
            yield f"I5: a client saw version {seen.number} of {seen.model_id}, which does not exist"
        elif seen.what in version.files:
            if version.files[seen.what]["sha256"] != seen.sha256:
                yield f"I5: {seen.what} of version {seen.number} of {seen.model_id} was {seen.sha256}"
        elif images.setdefault((seen.model_id, seen.number, seen.what), seen.sha256) != seen.sha256:
            yield f"I5: {seen.what} of version {seen.number} of {seen.model_id} was drawn in two ways"


def _expired_leases(state: State) -> Iterator[str]:
    """I6."""
    for job_id in state.overdue:
        job = state.jobs[job_id]
        yield f"I6: {job.id} is {job.state}, and its lease expired at {job.lease_until}"


def _temporary_files(state: State) -> Iterator[str]:
    """I7."""
    before = time.time() - INTERRUPTED_SECONDS - state.deployment.sweep_seconds
    for path in state.deployment.home.rglob(".unfinished-*"):
        try:
            if path.stat().st_mtime < before:
                yield f"I7: {path} is older than {INTERRUPTED_SECONDS:g} s"
        except FileNotFoundError:
            continue


def _attempts(state: State) -> Iterator[str]:
    """I8."""
    for job in state.jobs.values():
        if not 0 <= job.attempt <= job.max_attempts:
            yield f"I8: {job.id} has had {job.attempt} attempts of {job.max_attempts}"


def _followers(state: State) -> Iterator[str]:
    """I9."""
    for job in state.jobs.values():
        first = state.jobs[job.follows] if job.follows else None
        if first is None or first.state == "succeeded":
            continue
        if job.attempt or (first.done and job.state != "cancelled"):
            yield f"I9: {job.id} is {job.state}, and {first.id}, which it follows, is {first.state}"


def _exports(state: State) -> Iterator[str]:
    """I10."""
    for export in state.exports:
        plan = plan_of(export)
        numbers = [shard.number for shard in state.shards if shard.export_id == export.id]
        images = sum(shard.images for shard in state.shards if shard.export_id == export.id)
        if export.cleared_at is not None and numbers:
            yield f"I10: {export.id} was cleared, and has the shards {numbers}"
        if export.cleared_at is None and export.images_done != images:
            yield f"I10: {export.id} counts {export.images_done} images, and its shards have {images}"
        is_complete = export.state == "succeeded" and export.deleted_at is None
        if is_complete and (sorted(numbers) != list(range(plan.shards)) or images != plan.images):
            yield f"I10: {export.id} succeeded with the shards {numbers}, of {plan.shards}"


def _forgotten_labels(state: State) -> Iterator[str]:
    """A label is in no version after its forget, unless a learn job accepted after that learned it again."""
    for model in state.models:
        status: dict[str, str] = {}
        for version in state.versions_of(model):
            job = state.jobs[version.job_id]
            if job.operation == "learn":
                status |= dict.fromkeys(job.labels, job.retention or "permanent")
            elif job.operation == "forget":
                status |= dict.fromkeys(job.labels, "forgotten")
            held = {name for name, one in status.items() if one != "forgotten"}
            if set(version.labels) != held:
                where = f"version {version.number} of {model.name}"
                yield f"{where} holds {sorted(version.labels)}, and by its jobs {sorted(held)}"
            if held & _forgotten_later(state, version) and version.revoked_by is None:
                yield f"version {version.number} of {model.name} holds a label forgotten since, unrevoked"
        found = {row.name: row.status for row in state.labels if row.model_id == model.id}
        if found != status and model.deleted_at is None:
            yield f"the labels of {model.name} are {found}, and by its jobs they should be {status}"


def _forgotten_later(state: State, version: VersionRow) -> set[str]:
    """Return the labels that a later version of the same model forgot."""
    later = [
        state.jobs[one.job_id]
        for one in state.versions
        if one.model_id == version.model_id and one.number > version.number
    ]
    return {name for job in later if job.operation == "forget" for name in job.labels}


def _receipts(state: State, *, ended: bool) -> Iterator[str]:
    forgets = {job.id for job in state.jobs.values() if (job.operation, job.state) == ("forget", "succeeded")}
    if missing := forgets - set(state.receipts):
        yield f"no receipt is due for {sorted(missing)}, which forgot labels"
    for job_id, envelope in state.receipts.items():
        if envelope is None:
            if ended:
                yield f"the receipt of {job_id} is not signed"
            continue
        try:
            key = load_signing_key(state.deployment.keys).signer.public_key
            statement = verify_receipt(envelope.encode(), key).forget
        except (NotGenuine, CannotVerify) as error:
            yield f"the receipt of {job_id} does not verify: {error}"
            continue
        if statement.job != job_id:
            yield f"the receipt of {job_id} is about {statement.job}"


def _purges(state: State) -> Iterator[str]:
    """A file that a purge lists as deleted is not there, unless a job has stored the same bytes since.

    That job may be another model's: it publishes them in a moment, or they are collected.
    """
    for job_id, purge in state.purges.items():
        job = state.jobs[job_id]
        if purge.state == "done" and job.state != "succeeded":
            yield f"the purge of {job_id} is done, and the job is {job.state}"
        for file in purge.keys if purge.state == "done" else ():
            sha256 = file["sha256"]
            assert purge.finished_at is not None
            if sha256 not in state.referenced and _was_stored_before(state, sha256, purge.finished_at):
                yield f"{file['file']} of version {file['version']} was purged by {job_id}, and is there"


def _was_stored_before(state: State, sha256: str, moment: datetime) -> bool:
    """Whether the artifact, or an old version of it, is there, and was last stored before that moment."""
    found = state.files.get(sha256)
    return found is not None and found.modified_at < moment.timestamp() - PURGE_SECONDS


def _image_deletions(state: State) -> Iterator[str]:
    """A file of deleted images is not there, unless another upload has the same images."""
    for deletion in state.image_deletions:
        sha256 = deletion.sha256
        is_gone = deletion.state == "done" and sha256 not in state.referenced
        if sha256 is not None and is_gone and sha256 in state.files:
            yield f"images of dataset {deletion.dataset} were deleted, and their file {sha256} is there"


def _snapshots(state: State) -> Iterator[str]:
    for snapshot in state.snapshots:
        if state.jobs[snapshot.job_id].done:
            yield f"{snapshot.job_id} has ended, and still has a snapshot"


def _soundness(database: Database) -> Iterator[str]:
    if database.is_sqlite:
        with database.reading() as session:
            if (answer := session.execute(text("PRAGMA integrity_check")).scalar_one()) != "ok":
                yield f"the SQLite file is damaged: {answer}"
            if broken := session.execute(text("PRAGMA foreign_key_check")).all():
                yield f"rows refer to rows that are missing: {broken[:3]}"
