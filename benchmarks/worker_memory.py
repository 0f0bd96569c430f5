"""Measure whether the memory of a worker grows with the jobs it runs: one worker, many short jobs.

    python -m benchmarks.worker_memory --json -

Every model learns two labels of `digits` and forgets one; each tenth is evaluated as well. After every job
the resident set of the worker process is read. `growth_percent` compares the mean of the last fifth of the
jobs with that of the second fifth, because the first jobs import and load what all need.
"""

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.output import make_parser, write_figures
from palimpsest import Palimpsest
from palimpsest.local_server import local_server

NETWORK = {"encoder_widths": [64], "decoder_widths": [64], "latent": 8}
SHORT: dict[str, Any] = {"schedule": {"steps": 20}}
SHORT_EVALUATION: dict[str, Any] = {
    "seeds": 3,
    "reference": {"steps": 5, "batch_size": 16},
    "draws": 100,
    "attacks": 64,
    "attack_steps": 20,
    "relearning": {"steps": 8, "batch_size": 16},
    "capacity_examples": 50,
}
EVALUATED = 10
"""Each model with a number that is divisible by this is evaluated."""


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--models", type=int, default=150, help="number of models; %(default)s")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        sizes = measure(Path(folder), options.models)
        seconds = time.monotonic() - began
    fifth = len(sizes) // 5
    before, after = statistics.mean(sizes[fifth : 2 * fifth]), statistics.mean(sizes[-fifth:])
    figures = {
        "jobs": len(sizes),
        "second_fifth_mb": round(before, 1),
        "last_fifth_mb": round(after, 1),
        "largest_mb": round(max(sizes), 1),
        "growth_percent": round(100 * (after - before) / before, 2),
        "seconds": round(seconds),
    }
    write_figures(figures, options.json)


def measure(folder: Path, count: int) -> list[float]:
    """Run the jobs of so many models. Return the megabytes of the worker after each job."""
    sizes: list[float] = []
    with local_server(folder) as url:
        client = Palimpsest(url)
        for number in range(count):
            name = f"m{number}"
            client.models.create(name, dataset="digits", network=NETWORK)
            jobs = [
                client.models.learn(name, ["0", "1"], params=SHORT),
                client.models.forget(name, ["1"], params=SHORT | {"naive_steps": 10}),
            ]
            if number % EVALUATED == 0:
                client.jobs.wait(jobs[-1])
                jobs.append(client.models.evaluate(name, params=SHORT_EVALUATION))
            for job in jobs:
                client.jobs.wait(job)
                sizes.append(worker_megabytes())
    return sizes


def worker_megabytes() -> float:
    """Return the resident set of the one worker process of the server that this process started."""
    [size] = [
        int(line.split()[1]) * 1024 / 1e6
        for pid in descendants(os.getpid())
        if b"-m\0worker\0" in read(pid, "cmdline")
        for line in read(pid, "status").decode().splitlines()
        if line.startswith("VmRSS")
    ]
    return size


def descendants(pid: int) -> list[int]:
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for child in (thread / "children").read_text().split():
            found += [int(child), *descendants(int(child))]
    return found


def read(pid: int, name: str) -> bytes:
    return Path(f"/proc/{pid}/{name}").read_bytes()


if __name__ == "__main__":
    main()
