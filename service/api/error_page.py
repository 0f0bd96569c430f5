"""Every error code, with its statuses, its cause and its cure: as rows, and as the page at /docs/errors."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from service.api.error_kinds import STATUS, all_kinds, registry_errors
from service.registry.job_errors import FAILURES

if TYPE_CHECKING:
    from jinja2 import Template


@dataclass(frozen=True)
class ErrorRow:
    """One code. Several errors may share it: then `causes` and `cures` have one text for each."""

    code: str
    statuses: tuple[str, ...]
    """The HTTP statuses; of a job's error, its type."""
    causes: tuple[str, ...]
    cures: tuple[str, ...]


@dataclass(frozen=True)
class ErrorTable:
    """A part of the page."""

    title: str
    introduction: str
    column: str
    """The heading of the statuses."""
    rows: list[ErrorRow]


@cache
def error_tables() -> tuple[ErrorTable, ...]:
    """Return every error code of the service, in three tables."""
    requests = [(kind.code, str(kind.status), kind.cause, kind.cure) for kind in all_kinds()]
    jobs = [(one.code, one.type, one.cause, one.cure) for one in FAILURES]
    # A job may fail with an error of the registry, too; those that no request can lead to are listed with it.
    others = [(one.code, "", one.cause, one.cure) for one in registry_errors() if one.code not in STATUS]
    return (
        ErrorTable(
            "Requests",
            "A refused request is answered with `application/problem+json` (RFC 9457). Its `code` never "
            "changes its meaning; the texts may. `/docs` lists the codes of each operation. Codes with the "
            "status 422 are also those of single fields, in `errors`, each with a JSON pointer.",
            "status",
            _rows(requests),
        ),
        ErrorTable(
            "Jobs",
            "A job that did not succeed has an `error` with `type`, `code`, `message` and `retryable`. "
            "Besides these codes it may have one of the other tables.",
            "type",
            _rows(jobs),
        ),
        ErrorTable(
            "Workers and processes",
            "No request is answered with these. Logs show them, the command line prints them, and a job may "
            "end with one.",
            "",
            _rows(others),
        ),
    )


def _rows(errors: Iterable[tuple[str, str, str, str]]) -> list[ErrorRow]:
    by_code: dict[str, list[tuple[str, str, str]]] = {}
    for code, *rest in sorted(errors):
        by_code.setdefault(code, []).append((rest[0], rest[1], rest[2]))
    return [
        ErrorRow(
            code,
            tuple(dict.fromkeys(status for status, _, _ in found if status)),
            tuple(dict.fromkeys(cause for _, cause, _ in found)),
            tuple(dict.fromkeys(cure for _, _, cure in found)),
        )
        for code, found in by_code.items()
    ]


def render_markdown() -> str:
    """Return docs/errors.md."""
    lines = [
        "# Errors",
        "",
        "Every error code, what causes it, and what to do about it. A service shows this page, too, at",
        "`/docs/errors`, where the `type` of each error leads. `make pages` writes it from the code.",
        "",
    ]
    named: set[str] = set()
    for table in error_tables():
        column = f" {table.column} |" if table.column else ""
        lines += [f"## {table.title}", "", table.introduction, ""]
        lines += [f"| code |{column} cause | what to do |", f"|---|{'---|' if column else ''}---|---|"]
        for row in table.rows:
            anchor = "" if row.code in named else f'<a id="{row.code}"></a>'
            named.add(row.code)
            cells = [f"{anchor}`{row.code}`", *([", ".join(row.statuses)] if column else [])]
            lines.append(f"| {' | '.join([*cells, _join(row.causes), _join(row.cures)])} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def render_html() -> str:
    """Return the page at /docs/errors."""
    return _page().render(tables=error_tables())


def _join(texts: Iterable[str]) -> str:
    return " ".join(texts).replace("|", "\\|")


def _mark_code(text: str) -> Markup:
    """Return the text as HTML, with what stands between backticks as code."""
    parts = text.split("`")
    marked = (
        Markup("<code>{}</code>").format(part) if i % 2 else escape(part) for i, part in enumerate(parts)
    )
    return Markup("").join(marked)


@cache
def _page() -> "Template":
    """Return the template, compiled when the page is asked for first."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("service.api"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["code"] = _mark_code
    return environment.get_template("errors.jinja")
