"""A line of the log says which request and which job it is about."""

import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context

import pytest

from service import logs


@contextmanager
def json_lines() -> Iterator[None]:
    """Log JSON to stderr in the block, and restore the log of the test run afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers = []
    logs.configure(level="info", log_format="json")
    try:
        yield
    finally:
        root.handlers = handlers
        root.setLevel(level)


def test_lines_of_a_request_and_of_its_threads_have_its_id(capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("service.some")
    with json_lines():
        with logs.about(request_id="req_1", trace_id="4bf92f3577b34da6a3ce929d0e0e4736"):
            log.info("read %d rows", 3)
            with logs.about(job_id="job_1"), ThreadPoolExecutor() as pool:
                pool.submit(copy_context().run, log.warning, "slow").result()
        log.info("after")
    first, second, third = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert first.pop("time")
    assert first == {
        "level": "INFO",
        "logger": "service.some",
        "message": "read 3 rows",
        "request_id": "req_1",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "job_id": None,
    }
    assert (second["request_id"], second["job_id"], second["level"]) == ("req_1", "job_1", "WARNING")
    assert (third["request_id"], third["trace_id"], third["job_id"]) == (None, None, None)


def test_a_traceback_stays_on_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    with json_lines():
        try:
            raise ValueError("two\nlines")
        except ValueError:
            logging.getLogger("service.some").exception("failed")
    [line] = capsys.readouterr().err.splitlines()
    assert "ValueError: two\nlines" in json.loads(line)["exc_info"]


def test_urls_that_may_be_signed_are_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    with json_lines():
        logging.getLogger("httpx2").info("HTTP Request: GET http://bucket/?X-Amz-Signature=0123")
        logging.getLogger("httpx2").warning("a warning")
    assert [json.loads(line)["message"] for line in capsys.readouterr().err.splitlines()] == ["a warning"]
