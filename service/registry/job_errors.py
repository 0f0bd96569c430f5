"""The error objects of jobs that failed because no worker finished them: {type, code, message, retryable}."""

from collections.abc import Mapping
from typing import Any

WORKER_LOST: Mapping[str, Any] = {
    "type": "worker_lost",
    "code": "worker_lost",
    "message": (
        "every worker that ran this job stopped before it was done; look for the reason in the workers' "
        "logs, then send the request again"
    ),
    "retryable": True,
}

STALLED: Mapping[str, Any] = {
    "type": "stalled",
    "code": "stalled",
    "message": (
        "every worker that ran this job stopped making progress and was ended; the workers' logs name the "
        "phase in which it stalled. Check the datasets, the artifact folder and the device of the workers, "
        "then send the request again"
    ),
    "retryable": True,
}
