"""Revoked keys, deleted webhooks, samples, exports and projects: what a restored backup must not bring back.

Each of them has an entry in the audit log, written in its own transaction. Sealed entries have positions
without gaps, so the sweeper copies them to the erasure log in order and records how far it got.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.registry import audit, exports, keys, projects, samples, webhooks
from service.registry.errors import ProjectInUse
from service.registry.tables import (
    ApiKeyRow,
    AuditRow,
    ExportRow,
    FactRow,
    ProjectRow,
    Row,
    SampleRow,
    WebhookRow,
)

COPIED = "erasure_log_of_audit"
"""The fact that says up to which position the audit log was copied."""
BATCH = 1000
ROTATION = "signing_key.rotate"


@dataclass(frozen=True)
class Withdrawal:
    """A key that was revoked, or a webhook, sample, export or project that was deleted."""

    action: str
    """The action of its entry in the audit log, such as `key.revoke`."""
    resource: str
    finished_at: str

    @property
    def id(self) -> str:
        return f"{self.action}/{self.resource}"

    @property
    def summary(self) -> str:
        if self.action == ROTATION:
            return (
                f"the signing key was replaced by {self.resource}..., which the backup lacks: receipts that "
                "it signed do not verify here; if the older key was exposed, run "
                "`palimpsest keys rotate-signing`"
            )
        kind, _, verb = self.action.partition(".")
        return (
            f"{kind} {self.resource} ({'revoked' if verb == 'revoke' else 'deleted'} {self.finished_at[:10]})"
        )


def _remove_project(session: Session, resource: str) -> None:
    """Delete the project, unless the backup has something in it. It has no usable key of its own."""
    try:
        with session.begin_nested():
            projects.remove(session, resource)
    except ProjectInUse:
        return


AGAIN: dict[str, tuple[type[Row], Callable[[Session, str], object]]] = {
    "key.revoke": (ApiKeyRow, lambda session, one: keys.revoke(session, one, project=None)),
    "webhook.delete": (
        WebhookRow,
        lambda session, one: webhooks.remove(session, session.get_one(WebhookRow, one)),
    ),
    "sample.delete": (
        SampleRow,
        lambda session, one: samples.remove(session, session.get_one(SampleRow, one)),
    ),
    "export.delete": (ExportRow, lambda session, one: exports.remove(session, one)),
    "project.delete": (ProjectRow, _remove_project),
}
"""{action: (the table, what is done again)}, in the order in which it is done."""
ACTIONS = (*AGAIN, ROTATION)


def take_due(session: Session) -> list[Withdrawal]:
    """Return what of the sealed audit log was not copied yet, and record that it is. For the sweeper."""
    fact = session.get(FactRow, COPIED)
    copied = fact.value["position"] if fact else 0
    query = select(AuditRow.position, AuditRow.action, AuditRow.resource, AuditRow.at)
    query = query.where(AuditRow.position > copied).order_by(AuditRow.position).limit(BATCH)
    rows = session.execute(query).all()
    if rows:
        session.merge(FactRow(name=COPIED, value={"position": rows[-1].position}))
    return [Withdrawal(row.action, row.resource, row.at.isoformat()) for row in rows if row.action in ACTIONS]


def copy_again(session: Session) -> None:
    """Have everything copied again: the erasure log was lost."""
    if session.get(FactRow, COPIED) is not None:
        session.merge(FactRow(name=COPIED, value={"position": 0}))


def find_copied(session: Session) -> set[str]:
    """Return the ids of what was copied to the erasure log."""
    fact = session.get(FactRow, COPIED)
    query = select(AuditRow.action, AuditRow.resource).where(
        AuditRow.position <= (fact.value["position"] if fact else 0), AuditRow.action.in_(ACTIONS)
    )
    return {f"{action}/{resource}" for action, resource in session.execute(query)}


def find_unknown(session: Session, withdrawals: Sequence[Withdrawal]) -> set[str]:
    """Return the ids of those that the database does not know, and still has something of."""
    if not withdrawals:
        return set()
    entries = select(AuditRow.action, AuditRow.resource).where(AuditRow.action.in_(ACTIONS))
    known = {f"{action}/{resource}" for action, resource in session.execute(entries)}
    return {one.id for one in withdrawals if one.id not in known and _is_left(session, one)}


def repeat(session: Session, withdrawals: Iterable[Withdrawal]) -> None:
    """Revoke and delete again. The audit log says so."""
    for one in sorted(withdrawals, key=lambda one: ACTIONS.index(one.action)):
        if one.action == ROTATION:
            continue  # only the operator knows whether the key of the backup may sign
        table, again = AGAIN[one.action]
        row = session.get(table, one.resource)
        if row is not None:
            project = one.resource if isinstance(row, ProjectRow) else getattr(row, "project_id", None)
            again(session, one.resource)
            audit.append(
                session,
                "erasure.replay",
                one.resource,
                actor=audit.SERVICE,
                project_id=project,
                details={"erasure": one.id},
            )
    session.flush()


def _is_left(session: Session, one: Withdrawal) -> bool:
    if one.action == ROTATION:
        return True
    row = session.get(AGAIN[one.action][0], one.resource)
    return row is not None and getattr(row, "deleted_at", None) is None  # an export leaves a tombstone
