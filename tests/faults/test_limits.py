"""Clients that send too much or too slowly to a real `palimpsest serve`: the others are served on."""

import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest

from service.settings import Settings
from tests.api.raw_http import connect, send
from tests.instance import Instance, instance_of, wait_for

HEAD = b"POST /v1/models HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
PROMISED_SECONDS = 1.0
"""Within which other clients are answered, whatever these do."""
FEW_FILES = 120


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[Instance]:
    """An instance on SQLite. What is tested here never reaches the database."""
    with instance_of(Settings(home=tmp_path / "home", port=0, head_seconds=2), tmp_path) as instance:
        yield instance


def others_are_served(instance: Instance) -> bool:
    began = time.monotonic()
    answer = httpx2.get(f"{instance.url}/v1/models", timeout=10)
    return answer.status_code == 200 and time.monotonic() - began < PROMISED_SECONDS


def resident_bytes(pid: int) -> int:
    """How much memory a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def cpu_seconds(pid: int) -> float:
    """How long a process has computed."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def is_closed(connection: socket.socket) -> bool:
    """Whether the server has closed the connection, perhaps after an answer."""
    connection.setblocking(False)
    try:
        while connection.recv(65536):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def test_300_mib_of_one_header_are_refused_and_take_no_memory(instance: Instance) -> None:
    server = instance.up("serve").pid
    assert others_are_served(instance)
    before = resident_bytes(server)
    parts = [b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: ", *[b"a" * (1 << 20)] * 300]
    [answer] = send(instance.url, *parts)
    assert (answer.status, answer.problem["code"]) == (431, "headers_too_large")
    assert resident_bytes(server) - before < 20 << 20
    assert others_are_served(instance)


def test_400_slow_clients_are_closed_and_delay_nobody(instance: Instance) -> None:
    instance.up("serve")
    with ExitStack() as stack:
        slow = [stack.enter_context(connect(instance.url)) for _ in range(400)]
        for connection in slow:
            connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: ")
        assert others_are_served(instance)
        open_ones = slow

        def all_closed() -> bool:
            nonlocal open_ones
            open_ones = [each for each in open_ones if not is_closed(each)]
            for each in open_ones:
                try:
                    each.send(b"a")  # a byte now and then keeps nobody in
                except OSError:
                    continue
            return not open_ones

        wait_for("every slow client is closed", all_closed, 10)
        assert others_are_served(instance)


def test_bodies_that_trickle_are_refused(instance: Instance) -> None:
    instance.up("serve")
    with ExitStack() as stack:
        slow = [stack.enter_context(connect(instance.url)) for _ in range(50)]
        for connection in slow:
            connection.sendall(HEAD + b"Content-Length: 100000\r\n\r\n")
        assert others_are_served(instance)
        answers: dict[int, bytes] = {}

        def all_answered() -> bool:
            for each in slow:
                if each.fileno() in answers:
                    continue
                each.setblocking(False)
                try:
                    each.send(b" ")
                    answers[each.fileno()] = each.recv(4096)
                except BlockingIOError:
                    continue
                except OSError:
                    answers[each.fileno()] = b""
            return len(answers) == len(slow)

        wait_for("every body is refused", all_answered, 20)
        assert all(b" 408 " in answer and b"request_timeout" in answer for answer in answers.values())
        assert others_are_served(instance)


def test_with_few_descriptors_silent_clients_lock_nobody_out(instance: Instance) -> None:
    shell = ("sh", "-c", f'ulimit -n {FEW_FILES} && exec "$0" "$@"', sys.executable, "-m", "commands")
    instance.program = shell
    process = instance.up("serve", PALIMPSEST_HEAD_SECONDS="60")
    with ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(connect(instance.url))
        wait_for("others are served", lambda: others_are_served(instance), 10)
        assert len(os.listdir(f"/proc/{process.pid}/fd")) < FEW_FILES
        used = cpu_seconds(process.pid)
        for _ in range(20):
            assert others_are_served(instance)
        assert cpu_seconds(process.pid) - used < 2, "it does not spin"
        assert process.poll() is None
        assert instance.log.read_text().count("too many connections") == 1
