"""Describe why a job failed, for the client who requested it: type, code, message, retryable."""

import logging
from typing import Any

import torch
from pydantic import ValidationError

from service.durable import DISK_FULL
from service.registry import job_errors
from service.registry.errors import ArtifactCorrupt, ArtifactMissing, ArtifactUnreadable, RegistryError
from service.registry.job_errors import FailureType, JobFailure
from worker.learning.datasets import DatasetUnavailable
from worker.learning.slots import LabelConflict
from worker.learning.strategy import Diverged, NotForArchitecture, Unavailable
from worker.learning.units.resize import TooWide

log = logging.getLogger(__name__)


def describe_failure(error: Exception, job_id: str) -> dict[str, Any]:
    """Return the error object of a failed job: {type, code, message, retryable}.

    It is retryable if the same request may succeed later. A job is a function of its request and the model,
    so what a request or its images caused is caused again.
    An error that the client can do nothing about is described as internal, and logged with its traceback:
    its own message might name files and hosts.
    """
    match error:
        case DatasetUnavailable():
            return job_errors.DATASET_UNAVAILABLE.describe(str(error))
        case Unavailable():
            return job_errors.SOURCE_UNAVAILABLE.describe(str(error))
        case ArtifactUnreadable():
            return _registry_failure("storage", error, retryable=True)
        case ArtifactCorrupt() | ArtifactMissing():
            return _registry_failure("storage", error)
        case RegistryError():
            return _registry_failure("user", error)
        case Diverged():
            return job_errors.DIVERGED.describe(str(error))
        case LabelConflict():
            return job_errors.LABEL_CONFLICT.describe(str(error))
        case ValidationError():  # params that are each in range, but do not fit together
            problems = "; ".join(one["msg"].removeprefix("Value error, ") for one in error.errors())
            return job_errors.VALIDATION_FAILED.describe(problems)
        case NotForArchitecture():
            return job_errors.NOT_FOR_ARCHITECTURE.describe(str(error))
        case TooWide():
            return job_errors.TOO_WIDE.describe(str(error))
        case MemoryError() | torch.OutOfMemoryError():
            advice = "the worker ran out of memory; try a smaller batch_size or a smaller network"
            return job_errors.OUT_OF_MEMORY.describe(advice)
        case OSError() if error.errno in DISK_FULL:
            advice = (
                "the disk is too full to store what the job made; free some space and send the request again"
            )
            return job_errors.DISK_FULL.describe(advice)
        case RuntimeError() if "can't allocate memory" in str(error):  # torch's CPU allocator has no class
            return describe_failure(MemoryError(), job_id)
    log.exception("job %s: failed with an unexpected error", job_id, exc_info=error)
    message = f"an unexpected error in the worker; its log has the traceback, under {job_id}"
    return job_errors.INTERNAL.describe(message)


def _registry_failure(kind: FailureType, error: RegistryError, *, retryable: bool = False) -> dict[str, Any]:
    return JobFailure(kind, error.code, error.cause, error.cure, retryable).describe(error.message)


STORE_UNAVAILABLE = job_errors.STORAGE_UNAVAILABLE.describe(
    "the workers could not read or write the artifact store for too long; check it, then send the request "
    "again"
)
