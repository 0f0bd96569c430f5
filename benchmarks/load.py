"""Measure the API under load: a long queue, many clients that poll, and submits meanwhile.

    python -m benchmarks.load --json -
    python -m benchmarks.load --json - --database-url postgresql://postgres@127.0.0.1/EMPTY

Ten thousand jobs of a thousand models are queued, and no worker runs. A thousand clients, each with a
connection of its own, poll a job once a second with an API key; every second one sends the ETag of its last
answer. Then some jobs are submitted one after another while the clients go on.

`poll_ms`, `submit_ms`   from sending a request to its whole answer: median, 99th percentile, worst.
`poll_cpu_us`            CPU time of the server for one poll: its time in the run, without that of as many
                         seconds without clients.
`http_cpu_us`            the same for a constant answer (constant_answer.py) and as many clients: the part of
                         `poll_cpu_us` that is HTTP, which also tells how fast the machine was at that time.
`statuses`               how many answers had which status.
`rss_mib`                resident memory of the server before the polls and after them.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import insert, text
from sqlalchemy.orm import Session

from benchmarks import constant_answer
from benchmarks.output import make_parser, write_figures
from migrations import upgrade
from palimpsest.local_server import wait_until_ready
from service.registry import keys
from service.registry.database import Database
from service.registry.tables import DEFAULT_PROJECT, JobRow, ModelRow, new_id
from service.settings import Settings

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass
class Load:
    """What the clients saw."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--database-url", help="an empty PostgreSQL database; left out: SQLite")
    parser.add_argument("--models", type=int, default=1000, help="models; %(default)s")
    parser.add_argument("--jobs", type=int, default=10, help="queued jobs of each model; %(default)s")
    parser.add_argument("--clients", type=int, default=1000, help="clients that poll; %(default)s")
    parser.add_argument("--seconds", type=int, default=30, help="seconds of polling; %(default)s")
    parser.add_argument("--submits", type=int, default=200, help="submits meanwhile; %(default)s")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        settings = Settings(home=home, port=0, auth="on")
        if options.database_url:
            settings = Settings(home=home, port=0, auth="on", database_url=options.database_url)
        key, job_ids = prepare(settings, options.models, options.jobs)
        with constant_answer.serving() as (url, process):
            http_cpu_us = asyncio.run(measure_http(url, process, job_ids, options))
        with serving(settings) as (url, process):
            figures = asyncio.run(measure(url, process, key, job_ids, options))
    figures["http_cpu_us"] = http_cpu_us
    write_figures(figures, options.json)


def prepare(settings: Settings, models: int, jobs: int) -> tuple[str, list[str]]:
    """Queue the jobs. Returns the text of an API key, and the ids of the jobs, the oldest first."""
    database = Database(settings.database_url, wait_seconds=600)
    upgrade(database)
    with database.transaction() as session:
        job_ids = queue_jobs(session, models, jobs)
        _, key = keys.create(session, name="load", scopes=["read", "learn"], project=DEFAULT_PROJECT)
    if not database.is_sqlite:
        with database.transaction() as session:
            session.execute(text("ANALYZE"))
    database.dispose()
    return key, job_ids


def queue_jobs(session: Session, models: int, jobs: int) -> list[str]:
    """Add so many models, and so many queued jobs of each. Returns the ids of the jobs, the oldest first."""
    named = [
        {"id": new_id("mdl"), "name": f"m{n}", "dataset": "digits", "network": {}, "seed": 1}
        for n in range(models)
    ]
    queued: list[dict[str, Any]] = [
        {
            "id": new_id("job"),
            "model_id": model["id"],
            "operation": "learn",
            "strategy": "replay_ewc",
            "labels": [str(number)],
            "dataset": "digits",
            "params": {},
            "acceptance": {},
            "seed": 0,
            "state": "queued",
            "max_attempts": 3,
        }
        for number in range(jobs)
        for model in named
    ]
    session.execute(insert(ModelRow), named)
    session.execute(insert(JobRow), queued)
    return [str(job["id"]) for job in queued]


@contextmanager
def serving(settings: Settings) -> Iterator[tuple[str, int]]:
    """Run `palimpsest serve`; yield its URL and process id."""
    log = settings.home / "server.log"
    unlimited = {"PALIMPSEST_REQUESTS_PER_SECOND_OF_LOOPBACK": "0", "PYTHONUNBUFFERED": "1"}
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "commands", "serve"],
            env={**os.environ, **settings.as_environment(), **unlimited},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield wait_until_ready(server, log), server.pid
    finally:
        server.terminate()
        server.wait(30)


async def measure_http(url: str, process: int, job_ids: Sequence[str], options: Any) -> int:
    """Return the CPU time in microseconds of one constant answer to the clients that will poll."""
    connection = await Connection.open(url, "")
    await connection.send("GET", "/", "")  # answered once the server has started
    connection.close()
    polls = Load()
    used, _ = await asyncio.gather(
        cpu_seconds(process, options.seconds),
        poll_all(url, "", job_ids[: options.clients], options.seconds, polls),
    )
    return round(1e6 * used / max(len(polls.seconds), 1))


async def measure(url: str, process: int, key: str, job_ids: Sequence[str], options: Any) -> dict[str, Any]:
    """Poll, and poll while jobs are submitted."""
    spread = max(len(job_ids) // options.clients, 1)
    polled = job_ids[::spread][: options.clients]
    await asyncio.sleep(5)  # the sweeper sends its first messages
    idle = await cpu_seconds(process, options.seconds)
    before = resident_mib(process)
    polls = Load()
    busy, _ = await asyncio.gather(
        cpu_seconds(process, options.seconds), poll_all(url, key, polled, options.seconds, polls)
    )
    after = resident_mib(process)
    meanwhile, submits = Load(), Load()
    polling = asyncio.create_task(poll_all(url, key, polled, 3600, meanwhile))
    await submit_some(url, key, options, submits)
    polling.cancel()
    await asyncio.gather(polling, return_exceptions=True)
    return {
        "queued": len(job_ids),
        "clients": len(polled),
        "poll_ms": spread_of(polls.seconds),
        "poll_cpu_us": round(1e6 * (busy - idle) / max(len(polls.seconds), 1)),
        "submit_ms": spread_of(submits.seconds),
        "poll_ms_while_submitting": spread_of(meanwhile.seconds),
        "statuses": {
            "polls": dict(polls.statuses + meanwhile.statuses),
            "submits": dict(submits.statuses),
        },
        "rss_mib": {"before": round(before, 1), "after": round(after, 1)},
    }


async def poll_all(url: str, key: str, job_ids: Sequence[str], seconds: float, load: Load) -> None:
    """Poll each job from a connection of its own, once a second."""
    end = time.monotonic() + seconds
    async with asyncio.TaskGroup() as group:
        for number, job_id in enumerate(job_ids):
            delay = number / len(job_ids)
            group.create_task(poll(url, key, job_id, delay, end, load, with_etag=number % 2 == 0))


async def poll(
    url: str, key: str, job_id: str, delay: float, end: float, load: Load, *, with_etag: bool
) -> None:
    await asyncio.sleep(delay)
    connection = await Connection.open(url, key)
    etag = ""
    while (began := time.monotonic()) < end:
        condition = f"If-None-Match: {etag}\r\n" if etag and with_etag else ""
        status, headers = await connection.send("GET", f"/v1/jobs/{job_id}", condition)
        took = time.monotonic() - began
        load.seconds.append(took)
        load.statuses[status] += 1
        etag = headers.get("etag", etag)
        await asyncio.sleep(max(0.0, 1 - took))
    connection.close()


async def submit_some(url: str, key: str, options: Any, load: Load) -> None:
    """Submit jobs one after another, each to another model."""
    connection = await Connection.open(url, key)
    body = json.dumps({"labels": ["9"], "as": {"9": "nine"}, "dataset": "digits"})
    for number in range(options.submits):
        began = time.monotonic()
        status, _ = await connection.send("POST", f"/v1/models/m{number % options.models}/learn", "", body)
        load.seconds.append(time.monotonic() - began)
        load.statuses[status] += 1
        await asyncio.sleep(0.05)
    connection.close()


@dataclass
class Connection:
    """A connection that is kept open: HTTP/1.1 in its simplest form, since clients share the CPU."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    host: str
    key: str

    @classmethod
    async def open(cls, url: str, key: str) -> "Connection":
        address = urlsplit(url)
        assert address.hostname is not None
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        return cls(reader, writer, address.netloc, key)

    async def send(self, method: str, path: str, extra: str, body: str = "") -> tuple[int, dict[str, str]]:
        """Send a request; return the status and the headers of its answer, which is read to its end."""
        content = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
        self.writer.write(
            f"{method} {path} HTTP/1.1\r\nHost: {self.host}\r\nAuthorization: Bearer {self.key}\r\n"
            f"{extra}{content}\r\n{body}".encode()
        )
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:-2])}
        await self.reader.readexactly(int(headers.get("content-length", 0)))
        return int(head[0].split()[1]), headers

    def close(self) -> None:
        self.writer.close()


async def cpu_seconds(process: int, seconds: float) -> float:
    """Return how much CPU time the process uses in the next seconds."""

    def used() -> float:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND

    before = used()
    await asyncio.sleep(seconds)
    return used() - before


def resident_mib(process: int) -> float:
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def spread_of(seconds: Sequence[float]) -> dict[str, float]:
    """Return the median, 99th percentile and worst, in milliseconds."""
    if len(seconds) < 2:
        return {}
    percentiles = quantiles(seconds, n=100)
    found = {"median": percentiles[49], "p99": percentiles[98], "worst": max(seconds)}
    return {name: round(value * 1000, 1) for name, value in found.items()}


if __name__ == "__main__":
    main()
