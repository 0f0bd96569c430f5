"""Run a worker: `python -P -m worker`, the command line that `palimpsest worker` and `palimpsest up` use.

Without -P, Python would import modules from the working directory first.
"""

import os
import sys
from argparse import ArgumentParser
from functools import partial
from pathlib import Path

from service import early_signals, failpoints
from service.worker_identity import IDENTITY_OPTION, WorkerIdentity
from worker.jobs.code_version import CODE
from worker.process.ending import Ending
from worker.process.replacement import exit_quickly, exit_unless_started, replace_process, start_beats


def main() -> int:
    """Run jobs until SIGTERM or Ctrl-C. Returns the exit code."""
    early_signals.exit_on_sigterm()
    parser = ArgumentParser(prog="python -P -m worker", description="Run jobs, one at a time.")
    parser.add_argument(IDENTITY_OPTION, type=int, help="file descriptor that takes the worker's identity")
    identity_fd = parser.parse_args().identity_fd
    is_supervised = identity_fd is not None and _identify(identity_fd)
    note_start = exit_unless_started()

    # These imports take seconds (torch), so they come after the identity that the parent waits for.
    from service import logs
    from service.settings import load_settings
    from worker.packages import load_packages
    from worker.process.celery_app import make_app, run
    from worker.process.context import make_worker_context
    from worker.process.devices import DeviceUnavailable
    from worker.process.presence import Presence

    failpoints.reach("worker.start")
    deployment, ending = load_settings(), Ending()
    logs.configure(level=deployment.log_level, log_format=deployment.log_format)
    offers = load_packages()
    try:
        worker_context = make_worker_context(
            deployment,
            shutting_down=ending.is_shutting_down,
            replace_worker=partial(
                replace_process, supervised=is_supervised, shutting_down=ending.is_shutting_down
            ),
        )
    except DeviceUnavailable as error:
        sys.exit(f"palimpsest: {error}")
    app = make_app(deployment, worker_context, ending)
    _show_metrics(deployment.worker_metrics_port)
    note_start()
    if is_supervised:
        start_beats(identity_fd)
    with Presence(
        worker_context.database,
        worker_context.worker,
        offers,
        queues=worker_context.queues,
        on_drain=ending.drain,
    ):
        return run(app, deployment, on_shutdown=ending.shut_down)


def _show_metrics(port: int) -> None:
    from prometheus_client import start_http_server

    from service.metrics import REGISTRY

    if port:
        try:
            start_http_server(port, addr="127.0.0.1", registry=REGISTRY)
        except OSError as error:
            sys.exit(f"palimpsest: cannot show metrics on port {port}: {error.strerror}; choose another port")


def _identify(fd: int) -> bool:
    """Write the identity to the pipe. Returns whether a supervisor reads it."""
    root = Path(__file__).resolve().parents[1]
    try:
        os.write(fd, WorkerIdentity(root, CODE).to_line())
    except OSError:  # after a SIGHUP Celery restarts this process, and the pipe may be closed
        return False
    return True


if __name__ == "__main__":
    exit_quickly(main())
