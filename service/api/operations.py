"""POST /v1/models/{model}/learn, /forget, /resize and /evaluate: a request becomes a job."""

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import Field
from sqlalchemy.orm import Session

from service.api.dependencies import (
    Acceptance,
    Body,
    Here,
    Instance,
    LabelName,
    Labels,
    Seed,
    find_model,
    offered,
    refuse_duplicates,
)
from service.api.jobs import POLL_SECONDS, JobObject, job_object
from service.api.problems import READS_BODY, Problem, refusals
from service.api.route import Route
from service.registry import jobs
from service.registry.errors import DatabaseUnavailable, VersionRevoked
from service.registry.labels import all_temporary, projected
from service.registry.tables import JobRow, Operation
from service.requests.catalog import InvalidRequest, Retention, Violation, escape

router = APIRouter(prefix="/v1/models/{model}", tags=["operations"], route_class=Route)

MAX_WAIT_SECONDS = 60
LOOK_SOON_SECONDS, LOOK_LATE_SECONDS, PATIENCE_GROWS = 0.05, 1.0, 1.3
"""Who waits looks again ever less often: sixty waiting clients at 0.1 s each took all of two cores."""


class Change(Body):
    """What every request to change a model may say."""

    strategy: str | None = None
    params: dict[str, Any] = Field({}, description="the strategy's params; their schema is in /v1/catalog")
    seed: Seed = 0
    base_version: int | None = Field(None, ge=1, le=2**31 - 1, description="refuse if this is not the head")
    acceptance: Acceptance = Acceptance()


class Learn(Change):
    """Labels to learn, from the model's dataset or another."""

    labels: Labels
    dataset: str | None = None
    names: dict[str, LabelName] = Field(
        {}, alias="as", description="what the model is to call a label, where not as its dataset does"
    )
    retention: Literal["permanent", "temporary"] = Field(
        "permanent",
        description="`temporary`: each label in a small network of its own, which forgetting drops exactly. "
        "Learning a temporary label permanently merges its network into the main one",
    )


class Forget(Change):
    """Labels to forget."""

    labels: Labels
    purge: bool = Field(
        False, description="also delete the files of every older version that was made from these labels"
    )


class Resize(Change):
    """A new size for the network; what it draws stays."""

    policy: str = Field(description="prune or expand, as /v1/catalog lists them")


class Evaluate(Body):
    """A version to measure in full."""

    version: int | None = Field(None, ge=1, le=2**31 - 1, description="the head when it is left out")
    params: dict[str, Any] = Field({}, description="how much is measured; the schema is in /v1/catalog")
    seed: Seed = 0


class Submission:
    """One request on its way to becoming a job: the dependency the endpoints share."""

    def __init__(
        self,
        model: str,
        here: Here,
        request: Request,
        response: Response,
        prefer: Annotated[str, Header(description="`wait=N`: answer 200 if done in N seconds")] = "",
    ) -> None:
        self.model = model
        self.here = here
        self.request = request
        self.response = response
        self.wait_seconds = _wait_seconds(prefer)

    async def accept(
        self,
        operation: Operation,
        asked: Change,
        *,
        labels: list[str],
        dataset: str | None = None,
        names: Mapping[str, str] | None = None,
        retention: Retention | None = None,
        policy: str | None = None,
        purge: bool = False,
    ) -> JobObject:
        """Record the job, ring its bell, and answer 202 with it - or 200 when it is already done."""
        refuse_duplicates(labels)
        sources, catalog = _sources(labels, names or {}), self.here.catalog

        def record(session: Session) -> JobRow:
            model = jobs.locked(session, find_model(session, self.model))
            isolated = all_temporary(list(sources), projected(session, model))
            merging = operation == "learn" and retention == "permanent" and isolated
            chosen = catalog.strategy(
                operation,
                asked.strategy,
                policy=policy,
                retention="temporary" if operation == "forget" and isolated else retention or "permanent",
                merges_temporary=merging,
            )
            strategy = chosen.name
            params = catalog.check(operation, strategy, asked.params)
            source = dataset or model.dataset
            if chosen.merges_temporary and not merging:
                detail = f"{strategy} takes temporary labels only"
                raise InvalidRequest(Violation("/strategy", "label_not_temporary", detail))
            if merging and names:
                detail = "a temporary label is made permanent under the name it has; leave `as` out"
                raise InvalidRequest(Violation("/as", "label_already_named", detail))
            if operation == "learn" and not merging:
                _refuse_unknown(labels, offered(session, self.here).dataset(source).labels, source)
            return jobs.request(
                session,
                model,
                operation,
                strategy=strategy,
                labels=list(sources),
                dataset=source,
                renamed={name: own for name, own in sources.items() if name != own},
                retention=retention,
                params=params,
                acceptance=asked.acceptance.model_dump(exclude_none=True),
                seed=asked.seed,
                base_version=asked.base_version,
                request_id=self.request.state.request_id,
                max_attempts=self.here.settings.max_attempts,
                purge=purge,
            )

        return await self._answered(record)

    async def evaluate(self, asked: Evaluate) -> JobObject:
        """The same for a job that measures a version and changes nothing."""

        def record(session: Session) -> JobRow:
            model = find_model(session, self.model)
            strategy = self.here.catalog.strategy("evaluate").name
            try:
                return jobs.request(
                    session,
                    model,
                    "evaluate",
                    strategy=strategy,
                    labels=[],
                    dataset=model.dataset,
                    retention=None,
                    params=self.here.catalog.check("evaluate", strategy, asked.params),
                    acceptance={},
                    seed=asked.seed,
                    base_version=None,
                    evaluated_version=asked.version,
                    request_id=self.request.state.request_id,
                    max_attempts=self.here.settings.max_attempts,
                )
            except VersionRevoked as error:  # nothing is gone that was asked for: the model is in the way
                raise Problem(409, error.code, error.message) from error

        return await self._answered(record)

    async def _answered(self, record: Callable[[Session], JobRow]) -> JobObject:
        """The job as `record` writes it, its bell rung, waited for if that was preferred."""

        def commit() -> JobObject:
            with self.here.database.transaction() as session:
                row = record(session)
                job = job_object(row, jobs.queue_position(session, row))
            if not job.done:
                self.here.wake(job.id)  # only now: the row is committed, the message is but its bell
            return job

        job = await self._waited_for(await run_in_threadpool(commit))
        self.response.status_code = 200 if job.done else 202
        self.response.headers["Location"] = job.links["self"]
        if not job.done:
            self.response.headers["Retry-After"] = POLL_SECONDS
        return job

    async def _waited_for(self, job: JobObject) -> JobObject:
        """The job once it is done, or as it is when the client's patience (`Prefer: wait`) ends."""
        if self.wait_seconds is None:
            return job
        self.response.headers["Preference-Applied"] = f"wait={self.wait_seconds}"
        deadline = time.monotonic() + self.wait_seconds
        pause = LOOK_SOON_SECONDS
        while not job.done and time.monotonic() < deadline and not await self.request.is_disconnected():
            await asyncio.sleep(min(pause, max(deadline - time.monotonic(), 0)))
            pause = min(pause * PATIENCE_GROWS, LOOK_LATE_SECONDS)
            try:
                job = await run_in_threadpool(_read, self.here, job.id)
            except DatabaseUnavailable:
                return job  # the job is accepted, whatever happens now: say so
        return job


Submitted = Annotated[Submission, Depends()]

_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"model": JobObject, "description": "Done already: within `Prefer: wait`, or nothing was to do"},
    **READS_BODY,
    **refusals(404, 409),
}


@router.post("/learn", status_code=202, responses=_ANSWERS)
async def learn(asked: Learn, submitted: Submitted) -> JobObject:
    """Learn new labels while keeping the old ones."""
    return await submitted.accept(
        "learn",
        asked,
        labels=asked.labels,
        dataset=asked.dataset,
        names=asked.names,
        retention=asked.retention,
    )


@router.post("/forget", status_code=202, responses=_ANSWERS)
async def forget(asked: Forget, submitted: Submitted) -> JobObject:
    """Forget labels while keeping the others. What is forgotten already is a 200, and no second job."""
    return await submitted.accept("forget", asked, labels=asked.labels, purge=asked.purge)


@router.post("/resize", status_code=202, responses=_ANSWERS)
async def resize(asked: Resize, submitted: Submitted) -> JobObject:
    """Give the network another size."""
    return await submitted.accept("resize", asked, labels=[], policy=asked.policy)


@router.post("/evaluate", status_code=202, responses=_ANSWERS)
async def evaluate(asked: Evaluate, submitted: Submitted) -> JobObject:
    """Measure a version in full, beside references retrained without what it forgot."""
    return await submitted.evaluate(asked)


def _read(here: Instance, job_id: str) -> JobObject:
    with here.database.reading() as session:
        row = jobs.find(session, job_id)
        return job_object(row, jobs.queue_position(session, row))


def _wait_seconds(prefer: str) -> int | None:
    """N of `wait=N` among the preferences (RFC 7240), at most 60; what is malformed is no preference."""
    found = re.search(r'(?:^|[,;])\s*wait\s*=\s*"?([0-9]{1,6})"?\s*(?:$|[,;])', prefer, re.IGNORECASE)
    return min(int(found[1]), MAX_WAIT_SECONDS) if found else None


def _sources(labels: list[str], names: Mapping[str, str]) -> dict[str, str]:
    """The model's name for each label -> the dataset's own. InvalidRequest where `as` makes no sense."""
    strangers = [own for own in names if own not in labels]
    if strangers:
        raise InvalidRequest(
            *(
                Violation(f"/as/{escape(own)}", "unknown_label", f"{own!r} is not among the labels asked for")
                for own in strangers
            )
        )
    sources: dict[str, str] = {}
    for own in sorted(labels, key=names.__contains__):  # the renamed last: they are what a clash points at
        name = names.get(own, own)
        if name in sources:
            detail = f"{own!r} and {sources[name]!r} cannot both be called {name!r}"
            raise InvalidRequest(Violation(f"/as/{escape(own)}", "duplicate_item", detail))
        sources[name] = own
    return {names.get(own, own): own for own in labels}


def _refuse_unknown(labels: list[str], known: tuple[str, ...], dataset: str) -> None:
    unknown = [i for i, label in enumerate(labels) if label not in known]
    if unknown:
        raise InvalidRequest(
            *(
                Violation(
                    f"/labels/{i}",
                    "unknown_label",
                    f"{dataset} has no label {labels[i]!r}; it has: {', '.join(known)}",
                )
                for i in unknown
            )
        )
