"""/v1/catalog: the strategies, datasets and architectures, and the JSON Schemas of params and reports."""

from functools import cache
from typing import Any

from fastapi import APIRouter
from pydantic import TypeAdapter

from reports import FullReport, Report
from service.api.access import needs_no_key, requires
from service.api.context import Context
from service.api.route import Route
from service.requests.catalog import Catalog

router = APIRouter(prefix="/v1/catalog", tags=["catalog"], route_class=Route)


@router.get("")
@requires("read")
def get_catalog(context: Context) -> Catalog:
    """List the strategies of every operation, the datasets and the architectures.

    What other packages bring to the running workers comes after what is built in, with its `package`: it is
    accepted while a worker offers it. Uploaded datasets come last.
    """
    with context.database.reading() as session:
        return context.find_catalog(session)


@router.get("/report-schema")
@needs_no_key
def get_report_schema() -> dict[str, Any]:
    """Read the JSON Schema (draft 2020-12) of the reports that this release writes and answers with."""
    return _report_schema()


@cache
def _report_schema() -> dict[str, Any]:
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The report of a version",
        **TypeAdapter(FullReport | Report).json_schema(mode="serialization"),
    }
