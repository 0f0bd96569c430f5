"""Errors about jobs and their receipts."""

from service.registry.errors.base import RegistryError


class UnknownJob(RegistryError):
    code = "job_not_found"
    cause = "The project has no job of this id."
    cure = "GET /v1/jobs lists the jobs."

    def __init__(self, job_id: str) -> None:
        super().__init__(f"there is no job {job_id!r}; GET /v1/jobs lists the jobs")


class NoReceipt(RegistryError):
    code = "receipt_not_found"
    cause = "The job has no receipt and will get none: it is no forget, or it did not succeed."
    cure = "Ask for the receipt of a forget job that succeeded."

    def __init__(self, job_id: str, reason: str) -> None:
        super().__init__(
            f"job {job_id} has no receipt and will get none, because {reason}; only a forget that "
            "succeeds gets one"
        )


class ReceiptNotReady(RegistryError):
    code = "receipt_not_ready"
    cause = (
        "Something that the receipt must tell has not happened yet, such as the end of the job or of "
        "its deletions."
    )
    cure = "Send the request again in a moment."

    def __init__(self, job_id: str, reason: str) -> None:
        super().__init__(f"job {job_id} has no receipt yet, because {reason}; try again in a moment")


class JobAlreadyFinished(RegistryError):
    code = "job_already_finished"
    cause = "The job has ended."
    cure = "Nothing needs to be cancelled."

    def __init__(self, job_id: str, state: str) -> None:
        super().__init__(f"job {job_id} cannot be cancelled, because it has already ended as {state}")


class JobNotFinished(RegistryError):
    code = "job_not_finished"
    cause = "The job has not ended."
    cure = "Wait until it has ended, or cancel it; then repeat it."

    def __init__(self, job_id: str, state: str) -> None:
        self.job_id = job_id
        super().__init__(
            f"job {job_id} cannot be repeated, because it is still {state}; wait until it has ended, or "
            "cancel it"
        )


class JobAlreadySucceeded(RegistryError):
    code = "job_already_succeeded"
    cause = "The job has succeeded, so there is nothing to repeat."
    cure = "Send a new request."

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(
            f"job {job_id} is not repeated, because it has succeeded; send a new request instead"
        )


class JobNotRepeatable(RegistryError):
    """What the job was accepted with would not be accepted now."""

    code = "job_not_repeatable"
    cause = "What the job was accepted with would be refused now."
    cure = "Send a new request; the message names the rule."

    def __init__(self, job_id: str, reason: str) -> None:
        self.job_id = job_id
        super().__init__(
            f"job {job_id} cannot be repeated as it was, because its request would be refused now: {reason}; "
            "send a new request instead"
        )


class QueueFull(RegistryError):
    code = "queue_full"
    cause = "So many jobs are queued that no further one is accepted, of this key or of all."
    cure = "Send the request again when some have ended."

    def __init__(self, found: str) -> None:
        super().__init__(f"no further job is accepted now, because {found}; try again when some have ended")


class FencedOff(RegistryError):
    """The worker's claim of the job is no longer valid: it must stop, and cannot change the job's row."""

    code = "fenced_off"
    cause = "The job was cancelled, or another worker took it over, while a worker ran it."
    cure = "Nothing: this attempt publishes nothing, and the job goes on as its state says."

    def __init__(self, job_id: str, fence: int) -> None:
        super().__init__(
            f"cannot update job {job_id}: it was cancelled, or another worker took it over, so that the "
            f"claim with fence {fence} is no longer valid. This attempt publishes nothing"
        )


class NotOffered(RegistryError):
    """No running worker offers what a request names, although one did, or two packages dispute the name."""

    cure = "Whoever runs the service starts a worker with the package that the message names."

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(f"{what} is not offered: {reason}")


class StrategyNotOffered(NotOffered):
    code = "strategy_not_offered"
    cause = "No running worker offers the strategy, or two packages dispute its name."


class NetworkNotOffered(NotOffered):
    code = "network_not_offered"
    cause = "No running worker offers the architecture, or two packages dispute its name."


class DatasetNotOffered(NotOffered):
    code = "dataset_not_offered"
    cause = "No running worker offers the dataset, or two packages dispute its name."
