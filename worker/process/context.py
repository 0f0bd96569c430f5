"""Make the context in which a worker process runs jobs, once, from its settings."""

import os
from collections.abc import Callable
from functools import partial

from service.registry.claims import worker_name
from service.registry.database import Database
from service.registry.opening import open_artifacts, open_classifiers
from service.registry.space import describe_lack
from service.settings import Settings
from worker.jobs.inputs import WorkerContext
from worker.process.devices import choose_device, choose_precision, compute_reproducibly


def make_worker_context(
    deployment: Settings, *, shutting_down: Callable[[], bool], replace_worker: Callable[[], None]
) -> WorkerContext:
    """Prepare the device and return the context of all jobs. Raises DeviceUnavailable.

    shutting_down: returns whether the process has to stop; the running job then goes back to the queue.
    replace_worker: ends this process at once, so that another takes its place.
    """
    compute_reproducibly(deployment.threads)
    device = choose_device(deployment.device)
    return WorkerContext(
        database=Database(deployment.database_url),
        artifacts=open_artifacts(deployment),
        data=deployment.data,
        judges=open_classifiers(deployment),
        device=device,
        precision=choose_precision(deployment.precision, device),
        worker=worker_name(os.getpid()),
        lease_seconds=deployment.lease_seconds,
        queues=deployment.queue_names,
        shutting_down=shutting_down,
        stall_seconds=deployment.stall_seconds,
        replace_worker=replace_worker,
        scratch=deployment.scratch,
        find_lack=partial(describe_lack, deployment),
    )
