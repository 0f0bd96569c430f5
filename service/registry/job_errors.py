"""Why jobs fail: every kind of failure with its code, what causes it and what cures it.

A job's `error` is {type, code, message, retryable}. docs/errors.md lists the kinds. Besides these, a job may
fail with an error of the registry, under that error's code.
"""

from dataclasses import dataclass
from typing import Any, Literal

FailureType = Literal[
    "user",
    "acceptance_failed",
    "worker_lost",
    "diverged",
    "out_of_memory",
    "storage",
    "stalled",
    "followed_job",
    "internal",
]


@dataclass(frozen=True)
class JobFailure:
    """One kind of failure. `code` is part of the public API and never changes."""

    type: FailureType
    code: str
    cause: str
    cure: str
    retryable: bool = False
    """Whether the same request may succeed later."""

    def describe(self, message: str) -> dict[str, Any]:
        """Return the error object of a job that failed so."""
        return {"type": self.type, "code": self.code, "message": message, "retryable": self.retryable}


DATASET_UNAVAILABLE = JobFailure(
    "user",
    "dataset_unavailable",
    "The worker has no files of the dataset.",
    "Whoever runs the worker puts them into the folder PALIMPSEST_DATA.",
)
SOURCE_UNAVAILABLE = JobFailure(
    "user",
    "source_unavailable",
    "The strategy needs something that is not there, such as real images of labels that came from elsewhere.",
    "Use another strategy, or provide what the message names.",
)
DIVERGED = JobFailure(
    "diverged",
    "diverged",
    "The training produced values that are no numbers.",
    "Use a lower learning rate, or fewer steps.",
)
LABEL_CONFLICT = JobFailure(
    "user",
    "label_conflict",
    "The labels of the request do not fit those of the model.",
    "Change the labels as the message says.",
)
VALIDATION_FAILED = JobFailure(
    "user",
    "validation_failed",
    "Params that are each in range do not fit together.",
    "Change the params that the message names.",
)
NOT_FOR_ARCHITECTURE = JobFailure(
    "user",
    "strategy_not_for_architecture",
    "The strategy does not work on networks of the model's architecture.",
    "Use another strategy, or a model of an architecture that the message names.",
)
TOO_WIDE = JobFailure(
    "user",
    "too_wide",
    "The network would have more units than it may.",
    "Ask for fewer units, or prune the network first.",
)
OUT_OF_MEMORY = JobFailure(
    "out_of_memory",
    "out_of_memory",
    "The network or the batch is too large for the device.",
    "Use a smaller `batch_size` or a smaller network, or run the worker on a larger machine.",
    retryable=True,
)
DISK_FULL = JobFailure(
    "storage",
    "storage_full",
    "The disk is too full to store the result.",
    "Whoever runs the service frees some space; then retry the job.",
    retryable=True,
)
STORAGE_UNAVAILABLE = JobFailure(
    "storage",
    "storage_unavailable",
    "The artifact store could not be read or written for too long.",
    "Whoever runs the service checks that disk; then retry the job.",
    retryable=True,
)
INTERNAL = JobFailure(
    "internal",
    "internal_error",
    "A fault of the worker.",
    "Report it, with the lines of the worker's log that name the job.",
    retryable=True,
)
ACCEPTANCE_FAILED = JobFailure(
    "acceptance_failed",
    "acceptance_failed",
    "The candidate missed a criterion of `acceptance`, so that nothing was published (state `rejected`).",
    "`error.reasons` names each criterion. Train longer, use another strategy, or ask for less.",
)
WORKER_LOST = JobFailure(
    "worker_lost",
    "worker_lost",
    "The workers that ran the job stopped before it was done, as often as `max_attempts`.",
    "The workers' logs tell why, often memory; then retry the job.",
    retryable=True,
)
STALLED = JobFailure(
    "stalled",
    "stalled",
    "Every worker that ran the job stopped making progress, and was ended.",
    "Check the datasets, the artifact store and the device of the workers; then retry the job.",
    retryable=True,
)

FOLLOWED_JOB = JobFailure(
    "followed_job",
    "followed_job_not_succeeded",
    "The job that the resize was to follow did not succeed, so the resize was cancelled.",
    "`follows` names that job. Retry it, and a resize follows the new one, too.",
)
"""The trigger that cancels such a resize writes this error (migration 0012)."""

FAILURES = (
    DATASET_UNAVAILABLE,
    SOURCE_UNAVAILABLE,
    DIVERGED,
    LABEL_CONFLICT,
    VALIDATION_FAILED,
    NOT_FOR_ARCHITECTURE,
    TOO_WIDE,
    OUT_OF_MEMORY,
    DISK_FULL,
    STORAGE_UNAVAILABLE,
    INTERNAL,
    ACCEPTANCE_FAILED,
    WORKER_LOST,
    STALLED,
    FOLLOWED_JOB,
)

LOST = WORKER_LOST.describe(
    "every worker that ran this job stopped before it was done; look for the reason in the workers' logs, "
    "then send the request again"
)
"""The error of a job whose workers died."""
HUNG = STALLED.describe(
    "every worker that ran this job stopped making progress and was ended; the workers' logs name the phase "
    "in which it stalled. Check the datasets, the artifact store and the device of the workers, then send "
    "the request again"
)
"""The error of a job whose workers made no progress."""
