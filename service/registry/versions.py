"""Versions: find and list them, and check whether they may be drawn from and downloaded."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Literal, NamedTuple

from sqlalchemy import ColumnElement, and_, func, select
from sqlalchemy.orm import Session

from service.registry import labels
from service.registry.errors import (
    LabelForgotten,
    LabelNotLearned,
    ModelHasNoVersion,
    UnknownVersion,
    VersionDeleted,
    VersionPurged,
    VersionRevoked,
)
from service.registry.json_columns import having
from service.registry.pages import Page, in_order
from service.registry.tables import JobRow, ModelRow, Operation, VersionRow
from service.registry.version_files import DECODER, DESCRIPTIVE_FILES, is_forgotten_file, isolated_file

VersionState = Literal["usable", "revoked", "deleted", "purged"]
"""usable: it may be drawn from and downloaded; revoked: it holds a forgotten label; deleted: a client deleted
it with its files; purged: a purge deleted its files. Of several, the last one."""


class LabelDecoder(NamedTuple):
    """The published decoder that draws a label, and the label's slot in it."""

    sha256: str
    """The sha256 of the decoder's artifact."""
    slot: int


def find(session: Session, model: ModelRow, number: int) -> VersionRow:
    """Return version `number` of the model. Raises UnknownVersion."""
    query = select(VersionRow).where(VersionRow.model_id == model.id, VersionRow.number == number)
    version = session.scalar(query)
    if version is None:
        raise UnknownVersion(model.name, number)
    return version


def find_head(session: Session, model: ModelRow) -> VersionRow:
    """Return the newest version of the model. Raises ModelHasNoVersion."""
    if model.head is None:
        raise ModelHasNoVersion(model.name)
    return find(session, model, model.head)


def find_measurable(
    session: Session, model: ModelRow, number: int | None, *, lock: bool = False
) -> VersionRow:
    """Return version `number`, or the head if it is None, if the version may be drawn from and so measured.

    lock: lock its row, so that it is not revoked until the transaction ends.
    Raises ModelHasNoVersion, UnknownVersion, VersionPurged, VersionRevoked.
    """
    version = find_head(session, model) if number is None else find(session, model, number)
    if lock:
        session.refresh(version, with_for_update=True)
    check_drawable(model, version)
    return version


def find_newest_without(session: Session, model: ModelRow, names: Collection[str]) -> int | None:
    """Return the number of the newest version whose main network never learned any of these labels.

    Purged and deleted versions do not count. The purge of a temporary label may delete the files of a version
    that an exact forget of another label would otherwise start from, and so may a client.
    """
    first = find_first_that_learned(session, model.id, names)
    query = select(func.max(VersionRow.number)).where(
        VersionRow.model_id == model.id, VersionRow.purged_by.is_(None), VersionRow.deleted_at.is_(None)
    )
    return session.scalar(query if first is None else query.where(VersionRow.number < first))


def find_first_that_learned(session: Session, model_id: str, names: Collection[str]) -> int | None:
    """Return the number of the first version whose main network learned one of these labels, if any did."""
    learns = select(VersionRow.number, JobRow.labels).join(JobRow, JobRow.id == VersionRow.job_id)
    learns = learns.where(VersionRow.model_id == model_id, VersionRow.operation == "learn")
    learns = learns.where(JobRow.retention.is_distinct_from("temporary"))
    numbers = [number for number, learned in session.execute(learns) if set(names) & set(learned)]
    return min(numbers, default=None)


@dataclass(frozen=True)
class VersionFilter:
    """Which versions a list has. None and an empty mapping admit all of them."""

    state: VersionState | None = None
    operation: Operation | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


def page(
    session: Session,
    model: ModelRow,
    *,
    only: VersionFilter = VersionFilter(),
    descending: bool = True,
    limit: int,
    after: int | None = None,
) -> Page[VersionRow]:
    """Return the versions of the model, the newest first, or those that follow number `after`."""
    query = select(VersionRow).where(VersionRow.model_id == model.id)
    if only.state is not None:
        query = query.where(is_in_state(only.state))
    if only.operation is not None:
        query = query.where(VersionRow.operation == only.operation)
    query = having(query, VersionRow.client_metadata, only.metadata)
    return in_order(session, query, VersionRow.number, limit=limit, after=after, descending=descending)


def state_of(version: VersionRow) -> VersionState:
    """Return whether the version may be used, and otherwise why not."""
    if version.purged_by is not None:
        return "purged"
    if version.deleted_at is not None:
        return "deleted"
    return "usable" if version.revoked_by is None else "revoked"


def is_in_state(state: VersionState) -> ColumnElement[bool]:
    """Return the SQL condition that `state_of` a version is this."""
    reasons = {
        "purged": VersionRow.purged_by.is_not(None),
        "deleted": VersionRow.deleted_at.is_not(None),
        "revoked": VersionRow.revoked_by.is_not(None),
    }
    stronger = list(takewhile(lambda reason: reason != state, reasons))
    own = () if state == "usable" else (reasons[state],)
    return and_(*(~reasons[reason] for reason in stronger), *own)


def find_decoders(
    session: Session, model: ModelRow, version: VersionRow, names: Sequence[str]
) -> dict[str, LabelDecoder]:
    """Return {label: its decoder and slot} if this version may be drawn from and holds all these labels.

    Raises VersionPurged, VersionRevoked, LabelForgotten, LabelNotLearned.
    """
    check_drawable(model, version)
    missing = [name for name in names if name not in version.labels]
    if missing:
        known = labels.find_all(session, model.id)
        for name in missing:
            if name in known and known[name].status == "forgotten":
                raise LabelForgotten(model.name, name, known[name].forgotten_by)
        raise LabelNotLearned(model.name, version.number, missing)
    return {name: find_label_decoder(version.labels, version.files, name) for name in names}


def check_drawable(model: ModelRow, version: VersionRow) -> None:
    """Check that the version may be drawn from and downloaded. Raises VersionUnusable."""
    if version.purged_by is not None:
        raise VersionPurged(model.name, version.number, version.purged_by)
    if version.deleted_at is not None:
        raise VersionDeleted(model.name, version.number)
    if version.revoked_by is not None:
        raise VersionRevoked(model.name, version.number, version.revoked_by)


def is_drawable(version: VersionRow) -> bool:
    """Whether the version may be drawn from."""
    return state_of(version) == "usable"


def is_downloadable(version: VersionRow, file: str) -> bool:
    """Whether this file of the version may be downloaded.

    Descriptive files always may. Pictures of forgotten labels (what the version draws for them) may until the
    version is purged or deleted, all other files until it is revoked.
    """
    state = state_of(version)
    if state == "usable" or (state == "revoked" and is_forgotten_file(file)):
        return True
    return file in DESCRIPTIVE_FILES


def check_downloadable(model: ModelRow, version: VersionRow, file: str) -> None:
    """Check that this file may be downloaded. Raises VersionPurged, VersionRevoked."""
    if not is_downloadable(version, file):
        check_drawable(model, version)


def find_label_decoder(
    labels: Mapping[str, int | None], files: Mapping[str, Mapping[str, Any]], label: str
) -> LabelDecoder:
    """Return the decoder of a label that a version holds. labels, files: those of its row."""
    slot = labels[label]
    file = isolated_file(label, DECODER) if slot is None else DECODER
    return LabelDecoder(files[file]["sha256"], slot or 0)
