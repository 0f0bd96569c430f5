"""Errors about models, their versions, aliases and samples."""

from service.registry.errors.base import RegistryError


class UnknownModel(RegistryError):
    code = "model_not_found"
    cause = "The project has no model of this name or id."
    cure = "GET /v1/models lists the models; if it is another project's, name that in `Palimpsest-Project`."

    def __init__(self, name_or_id: str) -> None:
        super().__init__(f"there is no model {name_or_id!r}; GET /v1/models lists the models")


class UnknownVersion(RegistryError):
    code = "version_not_found"
    cause = "The model has no version of this number."
    cure = "GET /v1/models/{model}/versions lists its versions."

    def __init__(self, model: str, number: int | str) -> None:
        super().__init__(
            f"model {model!r} has no version {number}; GET /v1/models/{model}/versions lists its versions"
        )


class UnknownAlias(RegistryError):
    code = "alias_not_found"
    cause = "The model has no alias of this name."
    cure = "GET /v1/models/{model}/aliases lists its aliases."

    def __init__(self, model: str, name: str) -> None:
        super().__init__(
            f"model {model!r} has no alias {name[:80]!r}; GET /v1/models/{model}/aliases lists its aliases"
        )


class UnknownSample(RegistryError):
    code = "sample_not_found"
    cause = "The project has no sample of this id, or it was deleted."
    cure = "GET /v1/samples lists the samples."

    def __init__(self, sample_id: str) -> None:
        super().__init__(
            f"there is no sample {sample_id!r}; the X-Sample-Id header of a response has the id of its sample"
        )


class UnknownReport(RegistryError):
    code = "report_not_found"
    cause = "The version or the job has no such report."
    cure = "An evaluate job measures the full report; a job that made no candidate has none."


class ReportDeleted(RegistryError):
    code = "report_deleted"
    cause = "The report was deleted: with its model or version, or by a purge."
    cure = "Nothing brings it back; the receipt of the forget or of the deletion tells what was deleted."

    def __init__(self, job_id: str, found: str) -> None:
        super().__init__(f"the report of job {job_id} was deleted, because {found}")


class ModelHasNoVersion(RegistryError):
    code = "model_has_no_version"
    cause = "The model has not learned anything yet."
    cure = "Submit a learn job, and wait until it has succeeded."

    def __init__(self, model: str) -> None:
        super().__init__(
            f"model {model!r} has no version yet; POST /v1/models/{model}/learn makes its first version"
        )


class ModelExists(RegistryError):
    code = "model_exists"
    cause = "The project has a model of this name already."
    cure = "Choose another name, or use that model."

    def __init__(self, name: str) -> None:
        super().__init__(f"there is already a model named {name!r}; choose another name, or use that model")


class ModelBusy(RegistryError):
    code = "model_busy"
    cause = "A worker runs a job of the model."
    cure = "Wait until the job has ended, or cancel it; then send the request again."

    def __init__(self, model: str, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(
            f"model {model!r} cannot be deleted while a worker runs its job {job_id}; wait for the job or "
            "cancel it, and send the request again"
        )


class VersionUnusable(RegistryError):
    """A version may be neither drawn from nor downloaded: the base class of the reasons."""

    job_id: str | None = None
    """The job that is the reason, if one is."""


class VersionRevoked(VersionUnusable):
    code = "version_revoked"
    cause = "The version still holds a label that was forgotten since."
    cure = "Use the head, or another version that does not hold the label."

    def __init__(self, model: str, number: int, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(
            f"version {number} of model {model!r} is revoked, because it holds a label that job {job_id} "
            "forgot; use the head version"
        )


class VersionDeleted(VersionUnusable):
    code = "version_deleted"
    cause = "A client deleted the version with its files."
    cure = "Use the head, or another version."

    def __init__(self, model: str, number: int) -> None:
        super().__init__(
            f"version {number} of model {model!r} was deleted with its weights and images; only its report "
            "and its manifest can be read. Use the head version"
        )


class VersionPurged(VersionUnusable):
    code = "version_purged"
    cause = "A purge deleted the files of the version."
    cure = "Use the head, or another version."

    def __init__(self, model: str, number: int, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(
            f"the weights and images of version {number} of model {model!r} were deleted by the purge of job "
            f"{job_id}; only its report and its manifest can be read. Use the head version"
        )


class VersionInUse(RegistryError):
    code = "version_in_use"
    cause = "The version is the head, an alias names it, or an unfinished job may start from it."
    cure = "Move the alias, or wait for the job; the head is deleted with its model only."

    def __init__(self, model: str, number: int, reason: str, job_id: str | None = None) -> None:
        self.job_id = job_id
        super().__init__(f"version {number} of model {model!r} cannot be deleted, because {reason}")


class NoEarlierVersion(RegistryError):
    code = "no_earlier_version"
    cause = "The alias has named no other version."
    cure = "Set the alias to a version: PUT /v1/models/{model}/aliases/{alias}."

    def __init__(self, model: str, alias: str, number: int) -> None:
        super().__init__(
            f"the alias {alias!r} of model {model!r} has named no version before version {number}, so it "
            f"cannot be rolled back; PUT /v1/models/{model}/aliases/{alias} sets it to a version"
        )


class StaleBase(RegistryError):
    code = "stale_base"
    cause = (
        "The head of the model is not the `base_version` of the request: another job has published meanwhile."
    )
    cure = "Look at the new head, and send the request with its number."

    def __init__(self, requested: int | None, head: int | None) -> None:
        wanted = "no version" if requested is None else f"version {requested}"
        found = "there is none" if head is None else f"it is version {head}"
        advice = "without base_version" if head is None else f"with base_version={head}"
        super().__init__(
            f"the head of the model was expected to be {wanted}, but {found}; send the request again {advice}"
        )


class NoPermanentLabel(RegistryError):
    code = "nothing_permanent"
    cause = "The model holds no permanent label, and only the network that draws these can be resized."
    cure = "Learn a label permanently first, or leave the resize out."

    def __init__(self, model: str, *, follows: bool = False) -> None:
        """follows: the resize is to follow another job, after which no label is permanent."""
        when, cure = (
            (" after this job", "leave `resize` out") if follows else ("", "learn a label permanently first")
        )
        super().__init__(
            f"model {model!r} holds no permanent label{when}, and only the main network, which draws these, "
            f"is resized; {cure}"
        )
