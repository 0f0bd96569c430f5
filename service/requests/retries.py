"""Retries: the request by which a job that did not succeed is submitted once more.

It goes through all the rules that a new request has, because labels, datasets and strategies may have
changed.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from pydantic import ValidationError

from service.registry.acceptance import RELAPSE_MAX
from service.registry.job_errors import FOLLOWED_JOB
from service.registry.job_specs import Demands, ForgetSpec, JobSpec, LabelsSpec, Statuses
from service.registry.tables import JobRow
from service.requests.catalog import Catalog
from service.requests.operations import Evaluate, Forget, JobRequest, Learn, ModelDefaults, Resize
from service.requests.violations import InvalidRequest, Violation, escape

AnyRequest = TypeVar("AnyRequest", Learn, Forget, Resize, Evaluate)


def spec_again(job: JobRow, catalog: Catalog, statuses: Statuses) -> JobSpec:
    """Return the spec of a job that repeats this one. Raises InvalidRequest. See Learn.resolve.

    The resize that was to follow the job follows the new one, unless no permanent label is left.
    """
    spec = _request_of(job, catalog).resolve(catalog, statuses, ModelDefaults(dataset=job.dataset))
    if isinstance(spec, LabelsSpec) and "permanent" not in spec.statuses_after(statuses).values():
        spec = replace(spec, resize=None)
    if not isinstance(spec, ForgetSpec):
        return spec
    # Another job that has forgotten the labels meanwhile may have done so by another strategy.
    return replace(spec, demands=Demands(guarantee=spec.demands.guarantee))


def _request_of(job: JobRow, catalog: Catalog) -> JobRequest:
    """Return a request for all that a job was accepted with, so that it can be repeated.

    Every param and criterion is named, so that a default that has changed since changes nothing. The bounds
    that earlier forgets set are left out: they are frozen again with the new job.
    Raises InvalidRequest if no such request can be made now.
    """
    body: dict[str, Any] = {"params": job.params, "seed": job.seed, "metadata": job.client_metadata or {}}
    body |= {"reference": job.reference, "queue": job.queue, "priority": job.priority}
    if job.operation == "evaluate":
        return _parse(Evaluate, body | {"version": job.evaluated_version})
    criteria = {name: bound for name, bound in job.acceptance.items() if name != RELAPSE_MAX}
    body |= {"strategy": job.strategy, "base_version": job.base_version, "acceptance": criteria}
    if job.operation in ("learn", "forget"):
        body["resize"] = _resize_of(job, catalog)
    match job.operation:
        case "learn":
            renamed = {source: name for name, source in (job.renamed or {}).items()}
            body |= {"labels": list(job.sources.values()), "as": renamed, "dataset": job.dataset}
            body["expires_in"] = job.expires_in
            return _parse(Learn, body | {"retention": job.retention or "permanent"})
        case "forget":
            body |= {"labels": [*job.labels], "purge": job.purge is not None}
            body["also"] = {"datasets": job.image_erasure is not None}
            return _parse(Forget, body | {"guarantee": "exact" if job.guarantee == "exact" else None})
        case "resize":
            return _parse(Resize, body | {"policy": catalog.policy_of(job.strategy)})
        case "export":
            raise ValueError(f"job {job.id} draws a part of an export, which no client requests")


def _resize_of(job: JobRow, catalog: Catalog) -> dict[str, Any] | None:
    """Return the resize that was cancelled because this job did not succeed, as a request names it."""
    follower = job.follower
    if follower is None or (follower.error or {}).get("code") != FOLLOWED_JOB.code:
        return None
    policy = catalog.policy_of(follower.strategy)
    return {"policy": policy, "strategy": follower.strategy, "params": follower.params}


def _parse(kind: type[AnyRequest], body: Mapping[str, Any]) -> AnyRequest:
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        raise InvalidRequest(
            *(
                Violation("".join(f"/{escape(str(step))}" for step in one["loc"]), "out_of_range", one["msg"])
                for one in error.errors()
            )
        ) from error
