"""The command line and the environment that a worker process is started with.

`python -m NAME` imports from the working directory first, and so does Celery's own command line: a
`worker.py` or `json.py` that happens to lie there would run in place of the real one. So the worker is
started with -P, not through `celery`, and without entries of PYTHONPATH that depend on that directory.
"""

import os
import re
import site
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

from service.process.errors import CannotStart
from service.settings import Settings
from service.worker_identity import IDENTITY_OPTION, PROJECT_ROOT


def worker_command(identity_fd: int | None = None) -> list[str]:
    """Return the command line of a worker process: one process, which runs one job at a time.

    identity_fd: an inherited file descriptor that the worker writes its WorkerIdentity to, or None.
    """
    command = [sys.executable, "-P", "-m", "worker"]
    return command if identity_fd is None else [*command, IDENTITY_OPTION, str(identity_fd)]


def plan_workers(deployment: Settings, count: Callable[[], int]) -> list[Settings]:
    """Return the settings of the worker processes of this machine: one for each GPU, or the one asked for.

    count: returns how many GPUs there are; it is called only where nobody has chosen a device. Each worker
    shows its metrics on a port of its own.
    """
    gpus = count() if deployment.device == "auto" else 1
    if gpus <= 1:
        return [deployment]
    port = deployment.worker_metrics_port
    return [
        deployment.model_copy(
            update={"device": f"cuda:{number}", "worker_metrics_port": port + number if port else 0}
        )
        for number in range(gpus)
    ]


def count_gpus(environment: Mapping[str, str], devices: Path = Path("/dev")) -> int:
    """Return how many GPUs the workers of this machine may use.

    Where there are the device files of several, PyTorch is asked, in a process of its own: it respects
    CUDA_VISIBLE_DEVICES. Otherwise its import is not worth the seconds: one process uses what there is.
    """
    files = [path for path in devices.glob("nvidia*") if re.fullmatch(r"nvidia[0-9]+", path.name)]
    if len(files) <= 1:
        return len(files)
    command = [sys.executable, "-P", "-c", "import torch; print(torch.cuda.device_count())"]
    answer = subprocess.run(command, env=dict(environment), capture_output=True, text=True)
    if answer.returncode:
        reason = (answer.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise CannotStart(f"cannot count the GPUs: PyTorch says {reason}; name one: --device cuda:0")
    return int(answer.stdout)


def check_worker_package() -> None:
    """Raise CannotStart if `python -m worker` would run a package that is not this project's."""
    found = find_spec("worker")
    place = Path(found.origin).resolve() if found and found.origin else None
    if place is None or place.parents[1] != PROJECT_ROOT:
        raise CannotStart(
            f"cannot start a worker: its package `worker` should be in {PROJECT_ROOT}, "
            f"and Python finds {place or 'none'}; check PYTHONPATH and the installed packages"
        )


def worker_environment(deployment: Settings, inherited: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment of a worker process: these settings, and a PYTHONPATH for this project."""
    environment = {**inherited, **deployment.as_environment()}
    environment.pop("PYTHONPATH", None)
    if path := module_path(inherited.get("PYTHONPATH", "")):
        environment["PYTHONPATH"] = path
    return environment


def module_path(inherited: str, root: Path = PROJECT_ROOT) -> str:
    """Return the PYTHONPATH that has this project in it and no entry that depends on the working directory.

    A project in site-packages needs no entry. As an entry of PYTHONPATH, site-packages would come before the
    standard library, and some packages there have the name of a standard module.
    """
    entries = [entry for entry in inherited.split(os.pathsep) if os.path.isabs(entry)]
    installed = {Path(folder).resolve() for folder in (*site.getsitepackages(), site.getusersitepackages())}
    if root not in installed:
        entries = [str(root), *(entry for entry in entries if entry != str(root))]
    return os.pathsep.join(entries)
