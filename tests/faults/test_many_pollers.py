"""A thousand clients poll a job once a second: each is answered in time, and jobs go on."""

import asyncio
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from statistics import quantiles

import pytest

from tests.instance import Instance

POLLERS = 1000
ROUNDS = 10
MAX_SECONDS = 1.0
"""How long an answer may take, 99 times of 100."""


@dataclass
class Answers:
    """What the pollers were answered, and how long it took."""

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)


async def poll(port: int, path: str, answers: Answers) -> None:
    """Poll over one connection that is kept open, with the ETag of the last answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    etag = ""
    for _ in range(ROUNDS):
        begun = time.monotonic()
        condition = f"If-None-Match: {etag}\r\n" if etag else ""
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{condition}\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        if found := re.search(r"(?im)^content-length: (\d+)", head):
            await reader.readexactly(int(found[1]))
        answers.statuses[int(head.split()[1])] += 1
        answers.seconds.append(time.monotonic() - begun)
        if found := re.search(r"(?im)^etag: (\S+)", head):
            etag = found[1]
        await asyncio.sleep(max(0.0, begun + 1 - time.monotonic()))
    writer.close()


@pytest.mark.slow
def test_a_thousand_pollers_are_answered_in_time(instance: Instance) -> None:
    instance.up()
    instance.create("polled")
    instance.create("other")
    polled = instance.submit("learn", "polled", labels=["0"], steps=100_000)
    instance.worker_in_training(polled)
    port, answers = int(instance.url.rpartition(":")[2]), Answers()

    async def poll_all() -> None:
        tasks = []
        for _ in range(POLLERS):
            tasks.append(asyncio.create_task(poll(port, f"/v1/jobs/{polled}", answers)))
            await asyncio.sleep(1 / POLLERS)
        await asyncio.gather(*tasks)

    asyncio.run(poll_all())
    assert answers.statuses.total() == POLLERS * ROUNDS
    assert set(answers.statuses) <= {200, 304}
    assert quantiles(answers.seconds, n=100)[-1] < MAX_SECONDS
    assert instance.job(polled).attempt == 1
    instance.request("POST", f"/v1/jobs/{polled}/cancel", status=202)
    instance.succeeded(instance.submit("learn", "other", labels=["0"]))
