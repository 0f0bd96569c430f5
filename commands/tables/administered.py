"""What belongs to a service beside its models: datasets, strategies, projects, keys, webhooks, audit log."""

import json
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from commands.tables.layout import ago, facts, listing, names, state
from palimpsest import values


def datasets(found: Sequence[values.Dataset]) -> RenderableType:
    """Return a table of datasets."""
    table = listing("dataset", "labels", "images", "what it is", numbers=("images",))
    for one in found:
        count = "-" if one.images is None else f"{sum(one.images.values()):,}"
        table.add_row(one.name, names(one.labels), count, one.title)
    return table


def dataset(one: values.Dataset) -> RenderableType:
    """Return a dataset."""
    images = None
    if one.images is not None:
        images = ", ".join(f"{name}: {count:,}" for name, count in one.images.items())
    return facts(
        ("dataset", one.name),
        ("what it is", one.title),
        ("package", None if one.package is None else f"{one.package.name} {one.package.version}"),
        ("labels", names(one.labels)),
        ("images", images),
        (
            "held out for testing",
            None if one.test_images is None else f"{sum(one.test_images.values()):,} images",
        ),
        *(("converted", note.detail) for note in one.conversions),
        *(("warning", _describe_note(note, one)) for note in one.warnings),
        ("deleted labels", names(one.deleted_labels) if one.deleted_labels else None),
        (
            "needs a download",
            "no" if one.bundled else "yes, at the first use" if one.images is None else "no",
        ),
    )


def describe_notes(one: values.Dataset) -> list[str]:
    """Return how an upload was converted and what looks wrong, line by line."""
    return [
        *(f"converted: {note.detail}" for note in one.conversions),
        *(f"warning: {_describe_note(note, one)}" for note in one.warnings),
    ]


def _describe_note(note: values.UploadNote, one: values.Dataset) -> str:
    about_all = set(one.labels) <= set(note.labels) or not note.labels
    return note.detail if about_all else f"{names(note.labels)}: {note.detail}"


def keys(found: Sequence[values.ApiKey]) -> RenderableType:
    """Return a table of API keys."""
    table = listing("key", "name", "scopes", "project", "state", "last used")
    for key in found:
        expiry = "valid" if key.expires_at is None else f"expires {key.expires_at:%Y-%m-%d}"
        table.add_row(
            key.id,
            key.name,
            ",".join(key.scopes),
            key.project or "all",
            Text("revoked", style="red") if key.revoked_at else expiry,
            ago(key.last_used_at),
        )
    return table


def strategies(found: Sequence[values.Strategy]) -> RenderableType:
    """Return a table of strategies."""
    table = listing("operation", "strategy", "for", "guarantee", "package", "what it does")
    for one in found:
        kind = one.policy or ("temporary labels" if one.retention == "temporary" else "")
        name = f"{one.name} (default)" if one.default else one.name
        package = "built in" if one.package is None else one.package.name
        table.add_row(one.operation, name, kind, one.guarantee or "-", package, one.summary)
    return table


def strategy(one: values.Strategy) -> RenderableType:
    """Return a strategy with its params."""
    head = facts(
        ("strategy", one.name),
        ("operation", one.operation),
        ("guarantee", one.guarantee),
        ("package", None if one.package is None else f"{one.package.name} {one.package.version}"),
        ("what it does", one.summary),
        ("source", one.source),
    )
    table = listing("param", "default", "meaning")
    for name, schema in one.params.get("properties", {}).items():
        table.add_row(
            name, json.dumps(schema["default"]) if "default" in schema else "-", schema.get("description", "")
        )
    return Group(head, Text(), table)


def projects(found: Sequence[values.Project]) -> RenderableType:
    """Return a table of projects."""
    table = listing("project", "id", "created")
    for one in found:
        table.add_row(one.name, one.id, ago(one.created_at))
    return table


def project(one: values.Project) -> RenderableType:
    """Return a project."""
    return facts(("project", one.name), ("id", one.id), ("created", f"{one.created_at:%Y-%m-%d %H:%M} UTC"))


def webhooks(found: Sequence[values.Webhook]) -> RenderableType:
    """Return a table of webhooks."""
    if not found:
        return "No webhooks: palimpsest webhooks create URL --type job.finished"
    table = listing("webhook", "address", "told of", "state", "created")
    for one in found:
        table.add_row(one.id, one.url, " ".join(one.types), webhook_state(one), ago(one.created_at))
    return table


def webhook(one: values.Webhook) -> RenderableType:
    """Return a webhook."""
    return facts(
        ("webhook", one.id),
        ("address", one.url),
        ("told of", " ".join(one.types)),
        ("state", webhook_state(one)),
        ("created by", one.created_by),
        ("created", f"{one.created_at:%Y-%m-%d %H:%M} UTC"),
    )


def webhook_state(one: values.Webhook) -> Text:
    """Return whether messages are sent to a webhook."""
    if one.disabled_at is None:
        return Text("in use", style="green")
    return Text(f"given up at {one.disabled_at:%Y-%m-%d %H:%M} UTC", style="red")


def deliveries(found: Sequence[values.Delivery]) -> RenderableType:
    """Return a table of the messages of a webhook."""
    if not found:
        return "No messages yet: palimpsest webhooks test WEBHOOK"
    table = listing("message", "type", "state", "attempts", "answer", "created", numbers=("attempts",))
    for one in found:
        answer = one.error or ("-" if one.status is None else str(one.status))
        table.add_row(one.id, one.type, state(one.state), str(one.attempts), answer, ago(one.created_at))
    return table


def delivery(one: values.Delivery) -> RenderableType:
    """Return a message of a webhook."""
    return facts(
        ("message", one.id),
        ("type", one.type),
        ("state", state(one.state)),
        ("attempts", str(one.attempts)),
        ("answer", one.error or (None if one.status is None else str(one.status))),
    )


def audit_entries(found: Sequence[values.AuditEntry]) -> RenderableType:
    """Return a table of entries of the audit log."""
    table = listing("entry", "at", "who", "what", "of", "details", numbers=("entry",))
    for one in found:
        details = " ".join(f"{name}={_plain(value)}" for name, value in one.details.items())
        at = f"{one.at:%Y-%m-%d %H:%M:%S} UTC"
        table.add_row(str(one.sequence), at, one.actor, one.action, one.resource, details or "-")
    return table


def readiness(one: values.Readiness) -> RenderableType:
    """Return whether a service is ready, check by check."""
    checks = [
        (name, Text(result, style="green" if result == "ok" else "red"))
        for name, result in one.checks.items()
    ]
    return facts(("service", state(one.status)), *checks)


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
