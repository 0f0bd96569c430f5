"""The errors of the registry, one class for each rule.

`code` is part of the public API and never changes. The message is for the user: what was requested, what was
found, and what to do next.
"""

from collections.abc import Iterable, Sequence
from typing import ClassVar


class RegistryError(Exception):
    """The base class: the registry's rules forbid a request, or the database or a file cannot be used."""

    code: ClassVar[str] = "registry_error"

    @property
    def message(self) -> str:
        return str(self)


# --- what does not exist ---------------------------------------------------------------------------


class UnknownModel(RegistryError):
    code = "model_not_found"

    def __init__(self, name_or_id: str) -> None:
        super().__init__(f"there is no model {name_or_id!r}; GET /v1/models lists the models")


class UnknownJob(RegistryError):
    code = "job_not_found"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"there is no job {job_id!r}; GET /v1/jobs lists the jobs")


class UnknownVersion(RegistryError):
    code = "version_not_found"

    def __init__(self, model: str, number: int | str) -> None:
        super().__init__(
            f"model {model!r} has no version {number}; GET /v1/models/{model}/versions lists its versions"
        )


class UnknownAlias(RegistryError):
    code = "alias_not_found"

    def __init__(self, model: str, name: str) -> None:
        super().__init__(
            f"model {model!r} has no alias {name[:80]!r}; GET /v1/models/{model}/aliases lists its aliases"
        )


class UnknownSample(RegistryError):
    code = "sample_not_found"

    def __init__(self, sample_id: str) -> None:
        super().__init__(
            f"there is no sample {sample_id!r}; the X-Sample-Id header of a response has the id of its sample"
        )


class UnknownReport(RegistryError):
    code = "report_not_found"


class ReportDeleted(RegistryError):
    code = "report_deleted"

    def __init__(self, job_id: str, found: str) -> None:
        super().__init__(f"the report of job {job_id} was deleted, because {found}")


class UnknownDataset(RegistryError):
    code = "dataset_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no dataset {name!r}; GET /v1/datasets lists the datasets")


class NotOffered(RegistryError):
    """No running worker offers what a request names, although one did, or two packages dispute the name."""

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(f"{what} is not offered: {reason}")


class StrategyNotOffered(NotOffered):
    code = "strategy_not_offered"


class NetworkNotOffered(NotOffered):
    code = "network_not_offered"


class DatasetNotOffered(NotOffered):
    code = "dataset_not_offered"


class UnknownDatasetLabel(RegistryError):
    code = "unknown_label"

    def __init__(self, dataset: str, label: str, labels: Sequence[str], *, deleted: bool) -> None:
        found = f"the images of {label!r} were deleted from the dataset {dataset!r}"
        if not deleted:
            found = f"the dataset {dataset!r} has no label {label[:80]!r}"
        super().__init__(f"{found}; it has: {', '.join(labels)}")


class UnknownKey(RegistryError):
    code = "key_not_found"

    def __init__(self, key_id: str) -> None:
        super().__init__(f"there is no API key {key_id[:80]!r}; GET /v1/keys lists the keys")


class UnknownWebhook(RegistryError):
    code = "webhook_not_found"

    def __init__(self, webhook_id: str) -> None:
        super().__init__(f"there is no webhook {webhook_id[:80]!r}; GET /v1/webhooks lists the webhooks")


class UnknownProject(RegistryError):
    code = "project_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no project {name[:80]!r} that you may use; GET /v1/projects lists them")


class UnknownLabel(RegistryError):
    code = "unknown_label"

    def __init__(self, model: str, labels: Iterable[str]) -> None:
        super().__init__(
            f"model {model!r} never learned {_list(labels)}; GET /v1/models/{model} lists its labels"
        )


class ModelHasNoVersion(RegistryError):
    code = "model_has_no_version"

    def __init__(self, model: str) -> None:
        super().__init__(
            f"model {model!r} has no version yet; POST /v1/models/{model}/learn makes its first version"
        )


# --- what is not possible now ----------------------------------------------------------------------


class ProjectExists(RegistryError):
    code = "project_exists"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"there is already a project named {name!r}; choose another name, or use that project"
        )


class ProjectInUse(RegistryError):
    code = "project_in_use"

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"the project {name!r} cannot be deleted, because {reason}; delete those first")


class ModelExists(RegistryError):
    code = "model_exists"

    def __init__(self, name: str) -> None:
        super().__init__(f"there is already a model named {name!r}; choose another name, or use that model")


class DatasetExists(RegistryError):
    code = "dataset_exists"

    def __init__(self, name: str, difference: str) -> None:
        super().__init__(
            f"there is already a dataset {name!r}, {difference}; upload yours under another name"
        )


class DatasetInUse(RegistryError):
    code = "dataset_in_use"

    def __init__(self, name: str, job_id: str) -> None:
        super().__init__(
            f"the images of the dataset {name!r} cannot be deleted, because job {job_id} may need them; "
            "delete them when the job has ended, or cancel the job"
        )
        self.job_id = job_id


class ImagesDeleted(RegistryError):
    code = "images_deleted"

    def __init__(self, dataset: str, labels: Iterable[str]) -> None:
        super().__init__(
            f"the images of {_list(labels)} were deleted from the dataset {dataset!r}, so they cannot be "
            "learned from it"
        )


class QuotaExceeded(RegistryError):
    code = "quota_exceeded"

    def __init__(self, found: str) -> None:
        super().__init__(f"the dataset is not stored, because {found}; delete datasets that are not needed")


class LabelAlreadyLearned(RegistryError):
    code = "label_already_learned"

    def __init__(self, model: str, labels: Sequence[str], job_id: str | None = None) -> None:
        self.labels = tuple(labels)
        self.job_id = job_id
        by = f" (job {job_id})" if job_id else ""
        super().__init__(
            f"model {model!r} has already learned {_list(labels)}, or a queued job will learn it{by}; leave "
            "it out, or learn it under another name with `as`"
        )


class ForgottenWithLess(RegistryError):
    """A request asks for more than an earlier forget of the label gave, and its strategy cannot give it."""

    code = "forgotten_with_less"

    def __init__(self, model: str, label: str, job_id: str, missing: Sequence[str]) -> None:
        self.job_id = job_id
        super().__init__(
            f"model {model!r} has forgotten {label!r} in job {job_id}, or will, but {' and '.join(missing)}. "
            "Send the request with guarantee 'exact' to forget it again with more, or without what is "
            "missing to be answered with that job"
        )


class ForgetUnfinished(RegistryError):
    """A label would be left out of a job because of another job, which may still be cancelled or fail."""

    code = "forget_unfinished"

    def __init__(self, model: str, labels: Iterable[str], job_id: str) -> None:
        self.job_id = job_id
        super().__init__(
            f"job {job_id}, which is to forget {_list(labels)} of model {model!r}, has not ended and may "
            "still fail, and the request names other labels, too. Send it again when that job has ended, or "
            "send the labels of that job and the others in two requests"
        )


class TooManyRepetitions(RegistryError):
    """A job answers so many requests with other references or metadata that it keeps no more of them."""

    code = "too_many_repetitions"

    def __init__(self, job_id: str, most: int) -> None:
        self.job_id = job_id
        super().__init__(
            f"job {job_id} has forgotten the labels, or is to, and keeps the references and metadata of "
            f"{most} other requests already, and no more; send the request without reference and metadata to "
            "be answered with that job"
        )


class NotExact(RegistryError):
    """Dropping the networks of temporary labels is not exact, because the main network knew them once."""

    code = "guarantee_not_possible"

    def __init__(self, model: str, labels: Iterable[str], strategy: str) -> None:
        super().__init__(
            f"the strategy {strategy} does not forget {_list(labels)} exactly, because the main network of "
            f"model {model!r} learned it before the label became temporary; name an exact strategy for "
            "permanent labels (GET /v1/catalog), which makes the main network anew"
        )


class GuaranteeMissed(RegistryError):
    code = "guarantee_missed"

    def __init__(self, job_id: str) -> None:
        super().__init__(
            f"the result of job {job_id} is not exact, as it had to be; nothing is published. Name an exact "
            "strategy for permanent labels (GET /v1/catalog), and send the request again"
        )


class NoPermanentLabel(RegistryError):
    code = "nothing_permanent"

    def __init__(self, model: str) -> None:
        super().__init__(
            f"model {model!r} holds no permanent label, and only the main network, which draws these, is "
            "resized; learn a label permanently first"
        )


class StaleBase(RegistryError):
    code = "stale_base"

    def __init__(self, requested: int | None, head: int | None) -> None:
        wanted = "no version" if requested is None else f"version {requested}"
        found = "there is none" if head is None else f"it is version {head}"
        advice = "without base_version" if head is None else f"with base_version={head}"
        super().__init__(
            f"the head of the model was expected to be {wanted}, but {found}; send the request again {advice}"
        )


class LabelNotLearned(RegistryError):
    code = "label_not_learned"

    def __init__(self, model: str, number: int, labels: Iterable[str]) -> None:
        super().__init__(
            f"version {number} of model {model!r} does not hold {_list(labels)}; "
            f"GET /v1/models/{model}/versions/{number} lists the labels it holds"
        )


class LabelForgotten(RegistryError):
    code = "label_forgotten"

    def __init__(self, model: str, label: str, job_id: str | None) -> None:
        self.job_id = job_id
        by = f" in job {job_id}" if job_id else ""
        super().__init__(f"model {model!r} has forgotten {label!r}{by}; learn the label again to use it")


class VersionUnusable(RegistryError):
    """A version may be neither drawn from nor downloaded: the base class of the reasons."""

    job_id: str | None = None
    """The job that is the reason, if one is."""


class VersionRevoked(VersionUnusable):
    code = "version_revoked"

    def __init__(self, model: str, number: int, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(
            f"version {number} of model {model!r} is revoked, because it holds a label that job {job_id} "
            "forgot; use the head version"
        )


class VersionDeleted(VersionUnusable):
    code = "version_deleted"

    def __init__(self, model: str, number: int) -> None:
        super().__init__(
            f"version {number} of model {model!r} was deleted with its weights and images; only its report "
            "and its manifest can be read. Use the head version"
        )


class VersionInUse(RegistryError):
    code = "version_in_use"

    def __init__(self, model: str, number: int, reason: str, job_id: str | None = None) -> None:
        self.job_id = job_id
        super().__init__(f"version {number} of model {model!r} cannot be deleted, because {reason}")


class VersionPurged(VersionUnusable):
    code = "version_purged"

    def __init__(self, model: str, number: int, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(
            f"the weights and images of version {number} of model {model!r} were deleted by the purge of job "
            f"{job_id}; only its report and its manifest can be read. Use the head version"
        )


class NoEarlierVersion(RegistryError):
    code = "no_earlier_version"

    def __init__(self, model: str, alias: str, number: int) -> None:
        super().__init__(
            f"the alias {alias!r} of model {model!r} has named no version before version {number}, so it "
            f"cannot be rolled back; PUT /v1/models/{model}/aliases/{alias} sets it to a version"
        )


class NoReceipt(RegistryError):
    code = "receipt_not_found"

    def __init__(self, job_id: str, reason: str) -> None:
        super().__init__(
            f"job {job_id} has no receipt and will get none, because {reason}; only a forget that "
            "succeeds gets one"
        )


class ReceiptNotReady(RegistryError):
    code = "receipt_not_ready"

    def __init__(self, job_id: str, reason: str) -> None:
        super().__init__(f"job {job_id} has no receipt yet, because {reason}; try again in a moment")


class IdempotencyKeyReused(RegistryError):
    code = "idempotency_key_reused"

    def __init__(self, key: str) -> None:
        super().__init__(
            f"the Idempotency-Key {key[:64]!r} was used for a request with another method, path or body; "
            "send this request with a key of its own"
        )


class UnstorableText(RegistryError):
    """A text has a character that the database cannot hold. The rules of its field should say so."""

    code = "invalid_text"

    def __init__(self) -> None:
        super().__init__(
            "a text of the request holds a NUL, half of a surrogate pair, or a character that the database "
            "lacks; send it without these"
        )


class IdempotencyInFlight(RegistryError):
    code = "idempotency_in_flight"

    def __init__(self, key: str) -> None:
        super().__init__(
            f"a request with the Idempotency-Key {key[:64]!r} is being answered; send this one again in a "
            "moment to get the same answer"
        )


class ModelBusy(RegistryError):
    code = "model_busy"

    def __init__(self, model: str, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(
            f"model {model!r} cannot be deleted while a worker runs its job {job_id}; wait for the job or "
            "cancel it, and send the request again"
        )


class JobAlreadyFinished(RegistryError):
    code = "job_already_finished"

    def __init__(self, job_id: str, state: str) -> None:
        super().__init__(f"job {job_id} cannot be cancelled, because it has already ended as {state}")


class JobNotFinished(RegistryError):
    code = "job_not_finished"

    def __init__(self, job_id: str, state: str) -> None:
        self.job_id = job_id
        super().__init__(
            f"job {job_id} cannot be repeated, because it is still {state}; wait until it has ended, or "
            "cancel it"
        )


class JobAlreadySucceeded(RegistryError):
    code = "job_already_succeeded"

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(
            f"job {job_id} is not repeated, because it has succeeded; send a new request instead"
        )


class JobNotRepeatable(RegistryError):
    """What the job was accepted with would not be accepted now."""

    code = "job_not_repeatable"

    def __init__(self, job_id: str, reason: str) -> None:
        self.job_id = job_id
        super().__init__(
            f"job {job_id} cannot be repeated as it was, because its request would be refused now: {reason}; "
            "send a new request instead"
        )


class TooManyWebhooks(RegistryError):
    code = "too_many_webhooks"

    def __init__(self, most: int) -> None:
        super().__init__(f"the project has {most} webhooks, the most allowed; delete one that is not needed")


class TooManyMessages(RegistryError):
    code = "too_many_messages"

    def __init__(self, most: int) -> None:
        super().__init__(
            f"{most} messages that try the webhook have not been accepted yet; try again when some of them "
            "have, or have been given up"
        )


class QueueFull(RegistryError):
    code = "queue_full"

    def __init__(self, found: str) -> None:
        super().__init__(f"no further job is accepted now, because {found}; try again when some have ended")


class FencedOff(RegistryError):
    """The worker's claim of the job is no longer valid: it must stop, and cannot change the job's row."""

    code = "fenced_off"

    def __init__(self, job_id: str, fence: int) -> None:
        super().__init__(
            f"cannot update job {job_id}: it was cancelled, or another worker took it over, so that the "
            f"claim with fence {fence} is no longer valid. This attempt publishes nothing"
        )


# --- what does not work ----------------------------------------------------------------------------


class ArtifactMissing(RegistryError):
    code = "artifact_missing"

    def __init__(self, sha256: str) -> None:
        super().__init__(f"artifact {sha256} is not in the artifact folder; restore it from a backup")


class ArtifactUnreadable(RegistryError):
    code = "artifact_unreadable"

    def __init__(self, sha256: str, reason: str) -> None:
        super().__init__(
            f"artifact {sha256} cannot be read ({reason}); repair the artifact folder and try again"
        )


class ArtifactCorrupt(RegistryError):
    """The bytes of an artifact are not those that were stored, or do not have the expected format."""

    code = "artifact_corrupt"


class SigningKeyUnusable(RegistryError):
    code = "signing_key_unusable"

    def __init__(self, reason: str) -> None:
        super().__init__(f"the deployment's signing key cannot be used: {reason}")


class DatabaseUnavailable(RegistryError):
    code = "database_unavailable"

    def __init__(self, reason: str, *, has_answered: bool = False) -> None:
        """has_answered: the database is there, but could not do this in time."""
        self.reason = reason  # for the log: it may name hosts and files
        self.has_answered = has_answered
        super().__init__("the database does not answer; try again in a moment")


class DatabaseFull(DatabaseUnavailable):
    """The database cannot write, because its disk is full. It can still be read."""

    code = "storage_full"

    def __init__(self, reason: str) -> None:
        super().__init__(reason, has_answered=True)
        self.args = ("the database's disk is too full to record this; free some space, then try again",)


class DatabaseMoved(DatabaseUnavailable):
    """Another file, or none, has the name of the SQLite file that this process opened."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, has_answered=True)
        self.args = (
            "the database file was moved, deleted or replaced while the service runs, so nothing is written; "
            "the operator has to put it back, or to start the service again with the right one",
        )


class StorageFull(RegistryError):
    """Less space is free than the reserve, which only forget requests and running jobs may use."""

    code = "storage_full"

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what}, so nothing new is stored; free some space, then try again. Reading, drawing and "
            "forgetting go on"
        )


class StoreUnusable(RegistryError):
    """The database or the artifact folder is not this deployment's, or cannot be used."""

    code = "store_unusable"


class DatabaseTooNew(RegistryError):
    code = "database_too_new"

    def __init__(self, revision: str) -> None:
        super().__init__(
            f"the database is at revision {revision}, which this release does not know; "
            "install the release that migrated it, or a newer one"
        )


class DatabaseEncoding(RegistryError):
    code = "database_encoding"

    def __init__(self, encoding: str) -> None:
        super().__init__(
            f"the encoding of the database is {encoding}, which lacks characters that labels may have; "
            "create the database with ENCODING 'UTF8'"
        )


def _list(labels: Iterable[str]) -> str:
    return ", ".join(repr(label) for label in labels)
