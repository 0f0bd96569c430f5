"""Measure how much the memory of the server grows over many sample requests.

    python -m benchmarks.sampling_memory --json -

`rss_mib`             resident memory of the server: after `--warm` requests, which fill its pools and
                      caches, and after `--requests` more.
`growth_percent`      how much larger the second is. A leak of 1 KiB a request would be about 15 %.
`requests_per_second` of one client, which waits for each answer.
`refused`             how many answers were not 200.
"""

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

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
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), options.requests, options.warm)
    write_figures(figures, options.json)


def measure(home: Path, requests: int, warm: int) -> dict[str, Any]:
    """Learn a label with a tiny network, then send the requests, with the memory read before and after."""
    with local_server(home) as url, httpx.Client(base_url=url, timeout=60) as http:
        palimpsest = Palimpsest(url)
        palimpsest.create_model("m", dataset="digits", network=NETWORK)
        palimpsest.wait(palimpsest.learn("m", ["1"], params=PARAMS))
        server = int((home / "lock").read_text())
        refused = send(http, warm)
        before = resident_mib(server)
        began = time.monotonic()
        refused += send(http, requests)
        seconds = time.monotonic() - began
        after = resident_mib(server)
    return {
        "rss_mib": {"before": round(before, 1), "after": round(after, 1)},
        "growth_percent": round(100 * (after - before) / before, 2),
        "requests": requests,
        "requests_per_second": round(requests / seconds, 1),
        "refused": refused,
    }


def send(http: httpx.Client, requests: int) -> int:
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
