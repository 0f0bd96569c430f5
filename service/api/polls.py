"""Answers to polls of jobs. No request is more frequent, and most polls find that nothing has changed.

The last answer about a job is kept with the token of the job's row (service/registry/job_tokens.py) at that
time. Polls that arrive at about the same moment are answered together: one query reads the tokens of their
jobs. Where the token is that of the kept answer, this is the answer. The other jobs are read with a second
query, for all of them.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from fastapi import Response
from fastapi.responses import JSONResponse
from starlette.types import Scope as ASGIScope

from service.api.access import Caller
from service.api.gathered_reads import GatheredReads
from service.api.job_objects import POLL_SECONDS, describe_job
from service.api.plain_requests import NOT_IN_304, PlainHeaders, Reply
from service.api.route import add_etag, names_etag
from service.registry import jobs, workers
from service.registry.database import Database
from service.registry.job_tokens import read_tokens
from service.registry.keys import Scope
from service.requests.fields import JOB_ID

MAX_ANSWERS = 10_000
"""How many answers are kept, of about 2 KB each. The one that was polled longest ago is dropped first."""
MAX_BATCH = 200
GATHER_SECONDS = 0.01
"""The shortest time between two batches while there are many polls: large batches cost less for each."""
PREFIX = "/v1/jobs/"
PLAIN_ACCEPT = (b"", b"*/*", b"application/json", b"application/json, */*")
NO_TOKEN = ""
"""Unlike the token of any job."""


class Answer(NamedTuple):
    """A kept answer."""

    project: str
    """The id of the project of the job."""
    token: str
    body: bytes
    etag: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    """As ASGI sends them, with 200."""
    headers_of_304: tuple[tuple[bytes, bytes], ...]


class _Moment(NamedTuple):
    """What there was when a reading began."""

    change: int | None
    kept: Mapping[str, Answer | None]
    """{job id: its kept answer}."""


class Polls:
    """The kept answers, and the reading of others. Used on the event loop alone."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: OrderedDict[str, Answer] = OrderedDict()
        """{job id: its last answer}, the one that was given last at the end."""
        self._current: dict[str, Answer] = {}
        """Answers that were read or confirmed at `_change`: they hold as long as nothing is committed."""
        self._change: int | None = None
        self._reads = GatheredReads[str, Answer, _Moment](
            "polls",
            begin=lambda ids: _Moment(database.change_number(), {one: self._kept.get(one) for one in ids}),
            read=lambda moment, _: _read(database, moment.kept),
            keep=self._keep,
            most=MAX_BATCH,
            gather_seconds=GATHER_SECONDS,
        )

    async def find(self, job_id: str, project: str) -> Answer | None:
        """Return the answer about the project's job; None if there is none. Raises DatabaseUnavailable."""
        if not JOB_ID.fullmatch(job_id):
            return None
        answer = self._find_current(job_id) or await self._reads.find(job_id)
        return None if answer is None or answer.project != project else answer

    def close(self) -> None:
        """End the thread."""
        self._reads.close()

    def _find_current(self, job_id: str) -> Answer | None:
        """Return the answer if nothing was committed since it was confirmed, which only SQLite can tell."""
        change = self._database.change_number()
        if change is None or change != self._change or len(self._current) > MAX_ANSWERS:
            self._current = {}
            self._change = change
        return self._current.get(job_id)

    def _keep(self, moment: _Moment, found: Mapping[str, Answer | None]) -> None:
        answers = {job_id: answer for job_id, answer in found.items() if answer is not None}
        if moment.change is not None and moment.change == self._change:
            self._current.update(answers)
        for job_id, answer in answers.items():
            self._kept[job_id] = answer
            self._kept.move_to_end(job_id)
        while len(self._kept) > MAX_ANSWERS:
            self._kept.popitem(last=False)


def _read(database: Database, kept: Mapping[str, Answer | None]) -> dict[str, Answer]:
    """Return {job id: answer}: the kept ones that still hold, and new ones. Without unknown jobs.

    Raises DatabaseUnavailable.
    """
    # A token is older than its answer: a change in between only makes the next poll read the job again.
    tokens = read_tokens(database, list(kept))
    found = {
        job_id: answer for job_id, answer in kept.items() if answer and tokens.get(job_id) == answer.token
    }
    changed = [job_id for job_id in tokens if job_id not in found]
    return found | _answer(database, changed, tokens) if changed else found


def _answer(database: Database, job_ids: Sequence[str], tokens: Mapping[str, str]) -> dict[str, Answer]:
    """Return {job id: its answer}: the same that the endpoint gives."""
    with database.reading() as session:
        rows = jobs.find_each(session, job_ids)
        positions, waiting = jobs.queue_positions(session, rows), workers.find_waiting(session, rows)
        described = [
            (
                row.model.project_id,
                describe_job(row, positions.get(row.id), waits_for=waiting.get(row.id)),
            )
            for row in rows
        ]
    answers = {}
    for project, job in described:
        response = Response(job.model_dump_json(), media_type=JSONResponse.media_type)
        add_etag(response)
        if not job.done:
            response.headers["Retry-After"] = POLL_SECONDS
        # What a job waits for depends on workers, not on its row, so such an answer never holds.
        may_change = job.state == "queued" and bool(job.packages)
        answers[job.id] = Answer(
            project,
            NO_TOKEN if may_change else tokens[job.id],
            bytes(response.body),
            response.headers["etag"].encode(),
            tuple(response.raw_headers),
            tuple(each for each in response.raw_headers if each[0] not in NOT_IN_304),
        )
    return answers


class PollAnswers:
    """Answers polls whose media type the endpoint would not have to look at, and which have no query."""

    scopes: tuple[Scope, ...] = ("read",)
    pattern = PREFIX + "{job}"

    def __init__(self, polls: Polls) -> None:
        self._polls = polls

    def takes(self, path: str) -> bool:
        """Return whether the path may be that of a job."""
        return path.startswith(PREFIX)

    async def find(
        self, scope: ASGIScope, headers: PlainHeaders, caller: Caller, refuses: Callable[[], bool]
    ) -> Reply | None:
        """Return the answer; None for what the endpoint should answer. Raises DatabaseUnavailable."""
        if scope["query_string"] or headers.accept not in PLAIN_ACCEPT:
            return None
        answer = await self._polls.find(scope["path"].removeprefix(PREFIX), caller.project)
        if answer is None or refuses():
            return None
        if headers.condition and names_etag(headers.condition, answer.etag):
            return Reply(304, answer.headers_of_304, b"")
        return Reply(200, answer.headers, answer.body)
