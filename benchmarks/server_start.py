"""Measure how long `palimpsest serve` takes from its start to its first image, and how much memory it has.

    python -m benchmarks.server_start --json -

`first_answer_seconds`  from the start of the process until an image of a version that exists has arrived:
                        median of `--starts`, and the longest.
`command_cpu_seconds`   the CPU time of the process until then, median.
`memory_mib`            its resident memory after that first image, and after a thousand more.
"""

import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx2

from benchmarks.output import make_parser, write_figures
from palimpsest import Palimpsest
from palimpsest.local_server import local_server

NETWORK = {"architecture": "mlp"}
IMAGES = 1000
MODEL = "m"
TICK = os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--starts", type=int, default=7, help="number of starts; %(default)s")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        with local_server(home) as url:
            client = Palimpsest(url)
            client.models.create(MODEL, dataset="digits", network=NETWORK)
            client.jobs.wait(client.models.learn(MODEL, ["0"], params={"schedule": {"steps": 20}}))
        measured = [measure_start(home) for _ in range(options.starts)]
    seconds, cpu, first, later = zip(*measured, strict=True)
    figures = {
        "first_answer_seconds": round(statistics.median(seconds), 2),
        "longest_first_answer_seconds": round(max(seconds), 2),
        "command_cpu_seconds": round(statistics.median(cpu), 2),
        "memory_mib": {
            "first": round(statistics.median(first), 1),
            "later": round(statistics.median(later), 1),
        },
    }
    write_figures(figures, options.json)


def measure_start(home: Path) -> tuple[float, float, float, float]:
    """Start the server; return the seconds to its first image, its CPU seconds, and its memory twice, MiB."""
    port = free_port()
    variables = {**os.environ, "PALIMPSEST_HOME": str(home), "PALIMPSEST_LOG_LEVEL": "warning"}
    command = [sys.executable, "-m", "commands", "serve", "--port", str(port)]
    began = time.monotonic()
    process = subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL)
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}") as client:
            wait_for_image(client)
            seconds = time.monotonic() - began
            cpu, first = cpu_seconds(process.pid), resident_mib(process.pid)
            for seed in range(1, IMAGES + 1):
                get_image(client, seed)
            later = resident_mib(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    return seconds, cpu, first, later


def wait_for_image(client: httpx2.Client) -> None:
    """Request the first image until it arrives."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return get_image(client, 0)
        except httpx2.ConnectError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.005)


def get_image(client: httpx2.Client, seed: int) -> None:
    client.get(f"/v1/models/{MODEL}/versions/head/images/0/{seed}.png").raise_for_status()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def cpu_seconds(pid: int) -> float:
    """Return the user and system time of the process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def resident_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


if __name__ == "__main__":
    main()
