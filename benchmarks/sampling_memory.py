"""Measure how much the memory of the server grows over many sample requests, and over many new versions.

    python -m benchmarks.sampling_memory --json -

`samples`, `heads`    each has `rss_mib`, the resident memory of the server: after `--warm` requests or
                      `--warm-heads` versions, which fill its pools and caches, and after `--requests` or
                      `--heads` more; and `growth_percent`, how much larger the second is. A leak of 1 KiB a
                      request would be about 15 %. Every new version is drawn from once.
`requests_per_second` of one client, which waits for each answer.
`refused`             how many answers were not 200.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx2

from benchmarks.output import make_parser, write_figures
from palimpsest import Palimpsest
from palimpsest.local_server import local_server

NETWORK = {"encoder_widths": [16], "decoder_widths": [16], "latent": 2}
PARAMS = {"schedule": {"steps": 5, "batch_size": 16}, "fisher_examples": 20}
SAMPLES = (
    {"count": 8},
    {"count": 1, "format": "png"},
    {"count": 50, "format": "npz"},
    {"count": 4, "format": "b64_json"},
)
"""The requests that are sent in turn, so that every format is encoded."""


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--requests", type=int, default=20_000, help="measured requests; %(default)s")
    parser.add_argument("--warm", type=int, default=1_000, help="requests before them; %(default)s")
    parser.add_argument("--heads", type=int, default=1_000, help="measured new versions; %(default)s")
    parser.add_argument("--warm-heads", type=int, default=50, help="versions before them; %(default)s")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), options)
    write_figures(figures, options.json)


def measure(home: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Learn a label with a tiny network, then send requests and publish versions."""
    with local_server(home) as url, httpx2.Client(base_url=url, timeout=60) as http:
        client = Palimpsest(url)
        client.models.create("m", dataset="digits", network=NETWORK)
        client.jobs.wait(client.models.learn("m", ["1"], params=PARAMS))
        server = int((home / "lock").read_text())
        refused = send(http, options.warm)
        before = resident_mib(server)
        began = time.monotonic()
        refused += send(http, options.requests)
        seconds = time.monotonic() - began
        samples = growth(before, resident_mib(server))
        refused += publish(client, http, options.warm_heads)
        before = resident_mib(server)
        refused += publish(client, http, options.heads)
        heads = growth(before, resident_mib(server))
    return {
        "samples": samples,
        "heads": heads,
        "requests": options.requests,
        "new_versions": options.heads,
        "requests_per_second": round(options.requests / seconds, 1),
        "refused": refused,
    }


def growth(before: float, after: float) -> dict[str, Any]:
    """Return both sizes in MiB, and by how much the second is larger."""
    return {
        "rss_mib": {"before": round(before, 1), "after": round(after, 1)},
        "growth_percent": round(100 * (after - before) / before, 2),
    }


def publish(client: Palimpsest, http: httpx2.Client, versions: int) -> int:
    """Resize the model so often, and draw from each new head; return how many answers were not 200.

    The jobs are queued twenty at a time, so that the worker never waits for this client.
    """
    refused = 0
    for start in range(0, versions, 20):
        policies = ("expand", "prune") * 10
        jobs = [client.models.resize("m", policy=one) for one in policies[: min(20, versions - start)]]
        for job in jobs:
            client.jobs.wait(job)
            refused += send(http, 1)
    return refused


def send(http: httpx2.Client, requests: int) -> int:
    """Send sample requests one after another; return how many were not answered with 200."""
    refused = 0
    for index in range(requests):
        body = {"labels": ["1"], "seed": index, **SAMPLES[index % len(SAMPLES)]}
        refused += http.post("/v1/models/m/samples", json=body).status_code != 200
    return refused


def resident_mib(process: int) -> float:
    """Return the resident memory of a process in MiB."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / (1 << 20)


if __name__ == "__main__":
    main()
