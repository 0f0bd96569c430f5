"""Parse reports that any release wrote into the types of this release."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import ValidationError

from reports import release_0_1
from reports.figures import Criterion
from reports.report import FORMAT, FullReport, Report


class UnreadableReport(ValueError):
    """The document is not a report that this release can read; the message says why."""


def read_report(document: Mapping[str, Any], *, unknown: Literal["ignore", "allow"] = "ignore") -> Report:
    """Parse a report that this or any earlier release wrote. A full report becomes a FullReport.

    Fields that this release does not know are ignored, or kept if `unknown` is "allow". Raises
    UnreadableReport.
    """
    written_format = document.get("format", 1)
    if written_format not in (1, FORMAT):
        raise UnreadableReport(
            f"the report has format {written_format!r}, and this release reads formats 1 to {FORMAT}: "
            "read it with the release that wrote it, or a later one"
        )
    try:
        if written_format == 1:
            document = release_0_1.upgrade_report(document)
        kind = FullReport if document.get("level") == "full" else Report
        return kind.model_validate(document, extra=unknown)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the document"
        raise UnreadableReport(f"the report cannot be read: {place}: {first['msg']}") from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UnreadableReport(f"the report is not one of release 0.1.0: {error!r}") from error


def read_criterion(document: Mapping[str, Any]) -> Criterion:
    """Parse a missed criterion from a rejected job's error, as this or any earlier release wrote it."""
    return Criterion.model_validate(release_0_1.upgrade_criterion(document), extra="ignore")
