"""A short way to write the spec of a job in a test."""

from typing import Any

from service.registry.job_specs import EvaluateSpec, ForgetSpec, JobSpec, LearnSpec, ResizeSpec
from service.registry.tables import Operation


def job_spec(operation: Operation, *labels: str, **fields: Any) -> JobSpec:
    """Return the spec of that operation about those labels, with defaults for what is not given."""
    fields = {"strategy": "some", "params": {}, "dataset": "digits"} | fields
    match operation:
        case "learn":
            return LearnSpec(labels=labels, **fields)
        case "forget":
            return ForgetSpec(labels=labels, **fields)
        case "resize":
            return ResizeSpec(**fields)
        case "evaluate":
            return EvaluateSpec(**fields)
