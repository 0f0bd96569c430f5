"""The Python client of Palimpsest, a service for generative models that learn and forget labels on request.

    from palimpsest import Palimpsest

    with Palimpsest("http://127.0.0.1:8000") as palimpsest:
        palimpsest.create_model("numbers", dataset="digits")
        job = palimpsest.wait(palimpsest.learn("numbers", ["0", "1"]))
        print(job.state, job.output_version)

A plain `pip install palimpsest` is enough for it: it needs neither the service nor PyTorch.
"""

from palimpsest.client import Palimpsest
from palimpsest.errors import PalimpsestError, RequestRefused, ServerUnreachable
from palimpsest.values import (
    Dataset,
    Job,
    JobError,
    Json,
    Label,
    Model,
    Progress,
    Purge,
    Sample,
    SigningKey,
    Version,
)
from reports import Criterion, FullReport, Report

__all__ = [
    "Criterion",
    "Dataset",
    "FullReport",
    "Job",
    "JobError",
    "Json",
    "Label",
    "Model",
    "Palimpsest",
    "PalimpsestError",
    "Progress",
    "Purge",
    "Report",
    "RequestRefused",
    "Sample",
    "ServerUnreachable",
    "SigningKey",
    "Version",
]
