"""Describe why a job failed, for the client who requested it: type, code, message, retryable."""

import logging
from typing import Any

import torch
from pydantic import ValidationError

from service.durable import DISK_FULL
from service.registry.errors import ArtifactCorrupt, ArtifactMissing, ArtifactUnreadable, RegistryError
from worker.learning.datasets import DatasetUnavailable
from worker.learning.slots import LabelConflict
from worker.learning.strategy import Diverged, Unavailable
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
            return _failure("user", "dataset_unavailable", str(error), retryable=False)
        case Unavailable():
            return _failure("user", "source_unavailable", str(error), retryable=False)
        case ArtifactUnreadable():
            return _failure("storage", error.code, error.message, retryable=True)
        case ArtifactCorrupt() | ArtifactMissing():
            return _failure("storage", error.code, error.message, retryable=False)
        case RegistryError():
            return _failure("user", error.code, error.message, retryable=False)
        case Diverged():
            return _failure("diverged", "diverged", str(error), retryable=False)
        case LabelConflict():
            return _failure("user", "label_conflict", str(error), retryable=False)
        case ValidationError():  # params that are each in range, but do not fit together
            problems = "; ".join(one["msg"].removeprefix("Value error, ") for one in error.errors())
            return _failure("user", "validation_failed", problems, retryable=False)
        case TooWide():
            return _failure("user", "too_wide", str(error), retryable=False)
        case MemoryError() | torch.OutOfMemoryError():
            advice = "the worker ran out of memory; try a smaller batch_size or a smaller network"
            return _failure("out_of_memory", "out_of_memory", advice, retryable=True)
        case OSError() if error.errno in DISK_FULL:
            advice = "the disk is too full to store the version; free some space and send the request again"
            return _failure("storage", "storage_full", advice, retryable=True)
        case RuntimeError() if "can't allocate memory" in str(error):  # torch's CPU allocator has no class
            return describe_failure(MemoryError(), job_id)
    log.exception("job %s: failed with an unexpected error", job_id, exc_info=error)
    message = f"an unexpected error in the worker; its log has the traceback, under {job_id}"
    return _failure("internal", "internal_error", message, retryable=True)


def _failure(kind: str, code: str, message: str, *, retryable: bool) -> dict[str, Any]:
    return {"type": kind, "code": code, "message": message, "retryable": retryable}


STORE_UNAVAILABLE = _failure(
    "storage",
    "storage_unavailable",
    "the workers could not read or write the artifact folder for too long; check it, then send the request "
    "again",
    retryable=True,
)
