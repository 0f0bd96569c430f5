"""The log of a process: lines for people or JSON objects, with the ids of the request, its trace and the job.

Whoever handles a request or runs a job puts its id in a context variable; every line that is logged meanwhile
gets it, also in a thread that inherits the context.
"""

import logging
import re
from contextvars import ContextVar, Token
from typing import Literal, NamedTuple

from pythonjsonlogger.json import JsonFormatter

LogFormat = Literal["text", "json"]


class _Ids(NamedTuple):
    """What the lines are about."""

    request_id: str | None = None
    trace_id: str | None = None
    job_id: str | None = None


_NOTHING = _Ids()
_ids: ContextVar[_Ids] = ContextVar("ids", default=_NOTHING)


def configure(*, level: str, log_format: LogFormat) -> None:
    """Log to stderr from now on, in place of what was configured before. level: debug, info, ..."""
    handler = logging.StreamHandler()
    handler.addFilter(_add_ids)
    handler.setFormatter(_Redacted(_formatter(log_format)))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # it logs URLs, and signed ones are secrets


class about:  # noqa: N801 - reads as the function it is; a class, since every request uses it
    """Add these ids to every line that is logged in the `with` block."""

    __slots__ = ("_own", "_token")

    def __init__(
        self, *, request_id: str | None = None, trace_id: str | None = None, job_id: str | None = None
    ) -> None:
        outer = _ids.get()
        self._own = _Ids(request_id or outer.request_id, trace_id or outer.trace_id, job_id or outer.job_id)

    def __enter__(self) -> None:
        self._token: Token[_Ids] = _ids.set(self._own)

    def __exit__(self, *_: object) -> None:
        _ids.reset(self._token)


def _add_ids(record: logging.LogRecord) -> bool:
    record.request_id, record.trace_id, record.job_id = _ids.get()
    return True


KEY = re.compile(r"(pal_[0-9A-Za-z]{1,40}_)[0-9A-Za-z_]+")
"""An API key in any text, complete or not."""


def without_secrets(text: str) -> str:
    """Return the text without the secret part of every API key in it."""
    return KEY.sub(r"\1***", text) if "pal_" in text else text


class _Redacted(logging.Formatter):
    """Leaves the secret part of every API key out of the lines of another formatter, tracebacks included."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(self._inner.format(record))


def _formatter(log_format: LogFormat) -> logging.Formatter:
    if log_format == "text":
        return logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    return JsonFormatter(
        ["levelname", "name", "message", "request_id", "trace_id", "job_id"],
        rename_fields={"levelname": "level", "name": "logger"},
        timestamp="time",
    )
