"""Measure how many images a second a worker exports, on one core, and how much memory it needs.

    python -m benchmarks.exports --json -                       two million images of each format
    python -m benchmarks.exports --json - --images 200000       fewer

A server of its own learns two digits with the default network, and exports images of them. For each format:

`images_per_second`       from the start of the export to its end, with one worker on one core
`images_per_cpu_second`   the same by the CPU time of the worker
`bytes_per_image`         in the shards
`worker_mib`, `server_mib`   the resident set of each process before the export, and the largest one in it
`sample_is_equal`         whether a shard has the pixels of a sample with the same labels and seeds
"""

import argparse
import io
import os
import tempfile
from pathlib import Path
from typing import Any

import httpx2
import numpy as np

from benchmarks.http_load import pin
from benchmarks.output import make_parser, write_figures
from palimpsest import Export, Palimpsest
from palimpsest.local_server import local_server

MODEL, LABELS, SEED = "m", ("0", "1"), 5
COMPARED = 500
"""How many images of each label are compared with a sample."""


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--images", type=int, default=2_000_000, help="images of each format; %(default)s")
    parser.add_argument("--shard-images", type=int, default=None, help="images of a shard; the default's")
    parser.add_argument("--core", type=int, default=0, help="the core of the worker; %(default)s")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_figures(measure(Path(folder), options), options.json)


def measure(home: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Learn two labels, then export them in each format."""
    with local_server(home) as url, Palimpsest(url) as client:
        client.models.create(MODEL, dataset="digits")
        params = {"schedule": {"steps": 300}}
        client.jobs.wait(client.models.learn(MODEL, LABELS, params=params), must_succeed=True)
        server = int((home / "lock").read_text())
        worker = find_worker(server)
        pin(worker, options.core)
        formats = {
            name: measure_format(client, name, worker, server, options) for name in ("npz", "webdataset")
        }
    return {"images": options.images, "labels": len(LABELS), "formats": formats}


def measure_format(
    client: Palimpsest, format: str, worker: int, server: int, options: argparse.Namespace
) -> dict[str, Any]:
    """Export images in this format, and delete the export."""
    before = cpu_seconds(worker)
    resident = {process: reset_peak(process) for process in (worker, server)}
    count = options.images // len(LABELS)
    export = client.exports.create(
        MODEL, count, labels=LABELS, seed=SEED, format=format, shard_images=options.shard_images
    )
    done = client.exports.wait(export, must_succeed=True)
    used = cpu_seconds(worker) - before
    assert done.started_at is not None, "it has run"
    assert done.finished_at is not None, "it has ended"
    seconds = (done.finished_at - done.started_at).total_seconds()
    figures = {
        "images_per_second": round(done.images / seconds),
        "images_per_cpu_second": round(done.images / used),
        "seconds": round(seconds, 1),
        "shards": done.shards,
        "bytes_per_image": round(done.bytes / done.images, 1),
        "worker_mib": {"before": resident[worker], "peak": memory_mib(worker, "VmHWM")},
        "server_mib": {"before": resident[server], "peak": memory_mib(server, "VmHWM")},
    }
    if format == "npz":
        figures["sample_is_equal"] = is_equal_to_a_sample(client, done)
    client.exports.delete(done)
    return figures


def is_equal_to_a_sample(client: Palimpsest, export: Export) -> bool:
    """Whether the first images of the export are those of a sample."""
    shard = next(iter(client.exports.shards(export)))
    answer = httpx2.get(f"{client.base_url}{shard.href}", timeout=60).raise_for_status()
    sample = client.samples.create(MODEL, LABELS, COMPARED, seed=SEED, format="npz")
    with np.load(io.BytesIO(answer.content)) as exported, np.load(io.BytesIO(sample.content)) as drawn:
        of_label = {name: exported["images"][exported["labels"] == name][:COMPARED] for name in LABELS}
        return all(
            np.array_equal(images, drawn["images"][drawn["labels"] == name])
            for name, images in of_label.items()
        )


def find_worker(server: int) -> int:
    """Return the process id of the worker that the server has started."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:  # it has ended
            continue
        if parent == server and b"worker" in words:
            return int(folder.name)
    raise RuntimeError("the server has no worker")


def cpu_seconds(process: int) -> float:
    """Return the CPU time that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def reset_peak(process: int) -> float:
    """Let the kernel measure the largest resident set of a process from now on; return it as it is now."""
    Path(f"/proc/{process}/clear_refs").write_text("5")
    return memory_mib(process, "VmRSS")


def memory_mib(process: int, field: str) -> float:
    """Return the resident set of a process (VmRSS), or the largest one since the last reset (VmHWM)."""
    status = Path(f"/proc/{process}/status").read_text().splitlines()
    [line] = (line for line in status if line.startswith(f"{field}:"))
    return round(int(line.split()[1]) / 1024, 1)


if __name__ == "__main__":
    main()
