"""Why a job failed, in the words a client reads: type, code, message, retryable."""

import errno
import logging
from typing import Any

import torch
from pydantic import ValidationError

from service.registry.errors import ArtifactCorrupt, ArtifactMissing, ArtifactUnreadable, RegistryError
from worker.learning.datasets import DatasetUnavailable
from worker.learning.resizing.units import TooWide
from worker.learning.slots import LabelConflict
from worker.learning.strategy import Diverged, Unavailable

log = logging.getLogger(__name__)

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def explain(error: Exception, job_id: str) -> dict[str, Any]:
    """The job's error object. Only what the client can act on says more than that it went wrong here."""
    match error:
        case DatasetUnavailable():
            return _failure("user", "dataset_unavailable", str(error), retryable=True)
        case Unavailable():
            return _failure("user", "source_unavailable", str(error), retryable=True)
        case ArtifactCorrupt() | ArtifactMissing() | ArtifactUnreadable():
            return _failure("storage", error.code, error.message, retryable=True)
        case RegistryError():
            return _failure("user", error.code, error.message, retryable=False)
        case Diverged():
            return _failure("diverged", "diverged", str(error), retryable=False)
        case LabelConflict():
            return _failure("user", "label_conflict", str(error), retryable=False)
        case ValidationError():  # of params that are each in range, but not together
            told = "; ".join(one["msg"].removeprefix("Value error, ") for one in error.errors())
            return _failure("user", "validation_failed", told, retryable=False)
        case TooWide():
            return _failure("user", "too_wide", str(error), retryable=False)
        case MemoryError() | torch.OutOfMemoryError():
            advice = "the worker ran out of memory; ask for a smaller batch_size or network"
            return _failure("out_of_memory", "out_of_memory", advice, retryable=True)
        case OSError() if error.errno in DISK_FULL:
            advice = "there is no room left to store the version; make room and ask again"
            return _failure("storage", "storage_full", advice, retryable=True)
        case RuntimeError() if "can't allocate memory" in str(error):  # torch's CPU allocator has no class
            return explain(MemoryError(), job_id)
    log.exception("job %s failed", job_id, exc_info=error)
    return _failure(
        "internal", "internal_error", "an error inside the worker; its log has the trace", retryable=True
    )


def _failure(kind: str, code: str, message: str, *, retryable: bool) -> dict[str, Any]:
    return {"type": kind, "code": code, "message": message, "retryable": retryable}
