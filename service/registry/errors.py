"""What the registry refuses, one class a rule. `code` is stable; the message says what to do next."""

from collections.abc import Iterable
from typing import ClassVar


class RegistryError(Exception):
    """A rule of the registry was broken, or a thing it keeps cannot be had."""

    code: ClassVar[str] = "registry_error"

    @property
    def message(self) -> str:
        return str(self)


# --- what is not there -----------------------------------------------------------------------------


class UnknownModel(RegistryError):
    code = "model_not_found"

    def __init__(self, name_or_id: str) -> None:
        super().__init__(f"there is no model {name_or_id!r}; GET /v1/models lists them")


class UnknownJob(RegistryError):
    code = "job_not_found"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"there is no job {job_id!r}; GET /v1/jobs lists them")


class UnknownVersion(RegistryError):
    code = "version_not_found"

    def __init__(self, model: str, number: int | str) -> None:
        super().__init__(
            f"model {model!r} has no version {number}; GET /v1/models/{model}/versions lists them"
        )


class UnknownSample(RegistryError):
    code = "sample_not_found"

    def __init__(self, sample_id: str) -> None:
        super().__init__(f"there is no sample {sample_id!r}; it is the X-Sample-Id of an earlier answer")


class UnknownReport(RegistryError):
    code = "report_not_found"


class UnknownDataset(RegistryError):
    code = "dataset_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no dataset {name!r}; GET /v1/datasets lists them")


class UnknownLabel(RegistryError):
    code = "unknown_label"

    def __init__(self, model: str, labels: Iterable[str]) -> None:
        super().__init__(
            f"model {model!r} never learned {_list(labels)}; GET /v1/models/{model} lists its labels"
        )


class ModelHasNoVersion(RegistryError):
    code = "model_has_no_version"

    def __init__(self, model: str) -> None:
        super().__init__(f"model {model!r} has no version yet; POST /v1/models/{model}/learn makes the first")


# --- what may not be, now --------------------------------------------------------------------------


class ModelExists(RegistryError):
    code = "model_exists"

    def __init__(self, name: str) -> None:
        super().__init__(f"a model named {name!r} exists; choose another name or go on with that one")


class DatasetExists(RegistryError):
    code = "dataset_exists"

    def __init__(self, name: str, what: str) -> None:
        super().__init__(f"there is a dataset {name!r} already, {what}; upload yours under another name")


class LabelAlreadyLearned(RegistryError):
    code = "label_already_learned"

    def __init__(self, model: str, labels: Iterable[str]) -> None:
        super().__init__(
            f"model {model!r} already holds (or will, by a queued job) {_list(labels)}; leave it out, "
            "or learn it under another name with `as`"
        )


class WouldEmptyModel(RegistryError):
    code = "would_empty_model"

    def __init__(self, model: str) -> None:
        super().__init__(
            f"forgetting these labels would leave model {model!r} without any; keep at least one"
        )


class NoPermanentLabel(RegistryError):
    code = "nothing_permanent"

    def __init__(self, model: str) -> None:
        super().__init__(
            f"model {model!r} holds temporary labels only, each in a small network of its own, which is not "
            f"resized; learn a label permanently first"
        )


class StaleBase(RegistryError):
    code = "stale_base"

    def __init__(self, asked: int | None, head: int | None) -> None:
        asked_words = "no version" if asked is None else f"version {asked}"
        head_words = "there is none yet" if head is None else f"{head} is"
        advice = "without base_version" if head is None else f"with base_version={head}"
        super().__init__(f"{asked_words} is not the head ({head_words}); ask again {advice}")


class LabelNotLearned(RegistryError):
    code = "label_not_learned"

    def __init__(self, model: str, number: int, labels: Iterable[str]) -> None:
        super().__init__(
            f"version {number} of model {model!r} does not hold {_list(labels)}; ask for labels it holds"
        )


class LabelForgotten(RegistryError):
    code = "label_forgotten"

    def __init__(self, model: str, label: str, job_id: str | None) -> None:
        self.job_id = job_id
        by = f" by job {job_id}" if job_id else " already"
        super().__init__(f"model {model!r} forgot {label!r}{by}; learn it again to draw it")


class VersionRevoked(RegistryError):
    code = "version_revoked"

    def __init__(self, model: str, number: int, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(
            f"version {number} of model {model!r} holds a label that job {job_id} forgot, so it is no longer "
            "drawn from; use the head version"
        )


class VersionPurged(RegistryError):
    code = "version_purged"

    def __init__(self, model: str, number: int, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(
            f"version {number} of model {model!r} was purged with what job {job_id} forgot; its report and "
            "manifest are still there, its weights and images are not"
        )


class NoReceipt(RegistryError):
    code = "receipt_not_found"

    def __init__(self, job_id: str, what: str) -> None:
        super().__init__(f"job {job_id} has no receipt and gets none: {what}; a forget that succeeds has one")


class ReceiptNotReady(RegistryError):
    code = "receipt_not_ready"

    def __init__(self, job_id: str, what: str) -> None:
        super().__init__(f"job {job_id} has no receipt yet: {what}; ask again in a moment")


class JobAlreadyFinished(RegistryError):
    code = "job_already_finished"

    def __init__(self, job_id: str, state: str) -> None:
        super().__init__(f"job {job_id} is already {state}; it can no longer be cancelled")


class FencedOff(RegistryError):
    """Another worker took the job over (or it was cancelled): this one must stop and write nothing."""

    code = "fenced_off"

    def __init__(self, job_id: str, fence: int) -> None:
        super().__init__(f"job {job_id} is no longer held with fence {fence}; this attempt publishes nothing")


# --- what the machinery below cannot give ----------------------------------------------------------


class ArtifactMissing(RegistryError):
    code = "artifact_missing"

    def __init__(self, sha256: str) -> None:
        super().__init__(f"artifact {sha256} is not in the artifact folder; restore it from a backup")


class ArtifactUnreadable(RegistryError):
    code = "artifact_unreadable"

    def __init__(self, sha256: str, why: str) -> None:
        super().__init__(f"artifact {sha256} cannot be read ({why}); mend the artifact folder and ask again")


class ArtifactCorrupt(RegistryError):
    """The bytes of an artifact are not what they were (or never were what they should be)."""

    code = "artifact_corrupt"


class SigningKeyUnusable(RegistryError):
    code = "signing_key_unusable"

    def __init__(self, why: str) -> None:
        super().__init__(f"the deployment's signing key cannot be used: {why}")


class DatabaseUnavailable(RegistryError):
    code = "database_unavailable"

    def __init__(self, reason: str) -> None:
        self.reason = reason  # for the log: it may name hosts and files
        super().__init__("the database does not answer; try again in a moment")


class DatabaseTooNew(RegistryError):
    code = "database_too_new"

    def __init__(self, revision: str) -> None:
        super().__init__(
            f"the database is at revision {revision}, which this release does not know; "
            "install the release that wrote it, or a newer one"
        )


def _list(labels: Iterable[str]) -> str:
    return ", ".join(repr(label) for label in labels)
