"""Versions: found, listed, and what may be drawn from them. Also the recorded asks for images."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.registry import labels as label_rules
from service.registry.errors import (
    LabelForgotten,
    LabelNotLearned,
    ModelHasNoVersion,
    UnknownSample,
    UnknownVersion,
    VersionRevoked,
)
from service.registry.tables import JobRow, ModelRow, SampleRow, VersionRow, new_id

DECODER = "decoder.onnx"


class Decoding(NamedTuple):
    """What a label is drawn with: a published decoder, and the label's slot in it."""

    decoder: str  # its sha256
    slot: int


def isolated_file(label: str, name: str) -> str:
    """What the file `name` is called where it belongs to a temporary label's own network."""
    return f"isolated-{label}-{name}"


def forgotten_file(label: str) -> str:
    """What the picture of a forgotten label is called: what the network still draws for it."""
    return f"forgotten-{label}.png"


def find(session: Session, model: ModelRow, number: int) -> VersionRow:
    """Version `number` of the model. Raises UnknownVersion."""
    query = select(VersionRow).where(VersionRow.model_id == model.id, VersionRow.number == number)
    version = session.scalar(query)
    if version is None:
        raise UnknownVersion(model.name, number)
    return version


def head(session: Session, model: ModelRow) -> VersionRow:
    """The newest version of the model. Raises ModelHasNoVersion."""
    if model.head is None:
        raise ModelHasNoVersion(model.name)
    return find(session, model, model.head)


def measurable(session: Session, model: ModelRow, number: int | None, *, lock: bool = False) -> VersionRow:
    """The version of that number, or the head, if it may still be measured: measuring draws from it.

    lock: until the end of the transaction nobody revokes it.
    Raises ModelHasNoVersion, UnknownVersion, VersionRevoked.
    """
    version = head(session, model) if number is None else find(session, model, number)
    if lock:
        session.refresh(version, with_for_update=True)
    if version.revoked_by is not None:
        raise VersionRevoked(model.name, version.number, version.revoked_by)
    return version


def newest_without(session: Session, model: ModelRow, names: Collection[str]) -> int | None:
    """The number of the newest version whose main network never learned any of these labels."""
    learns = select(VersionRow.number, JobRow.labels).join(JobRow, JobRow.id == VersionRow.job_id)
    learns = learns.where(VersionRow.model_id == model.id, VersionRow.operation == "learn")
    learns = learns.where(JobRow.retention.is_distinct_from("temporary"))
    saw = [number for number, learned in session.execute(learns) if set(names) & set(learned)]
    newest = min(saw) - 1 if saw else model.head
    return newest or None


def page(
    session: Session, model: ModelRow, *, limit: int, after: int | None = None
) -> tuple[list[VersionRow], bool]:
    """Versions of the model, newest first, from behind number `after`; and whether there are more."""
    query = select(VersionRow).where(VersionRow.model_id == model.id)
    if after is not None:
        query = query.where(VersionRow.number < after)
    rows = list(session.scalars(query.order_by(VersionRow.number.desc()).limit(limit + 1)))
    return rows[:limit], len(rows) > limit


def drawable(
    session: Session, model: ModelRow, version: VersionRow, labels: Sequence[str]
) -> dict[str, Decoding]:
    """How to draw each label asked for, if this version may. By status, never by looks.

    Raises VersionRevoked, LabelForgotten, LabelNotLearned.
    """
    if version.revoked_by is not None:
        raise VersionRevoked(model.name, version.number, version.revoked_by)
    missing = [name for name in labels if name not in version.labels]
    if missing:
        known = label_rules.statuses(session, model.id)
        for name in missing:
            if name in known and known[name].status == "forgotten":
                raise LabelForgotten(model.name, name, known[name].forgotten_by)
        raise LabelNotLearned(model.name, version.number, missing)
    return {name: _decoding(version, name) for name in labels}


def _decoding(version: VersionRow, label: str) -> Decoding:
    slot = version.labels[label]
    file = isolated_file(label, DECODER) if slot is None else DECODER
    return Decoding(version.files[file]["sha256"], slot or 0)


def record_sample(
    session: Session,
    model: ModelRow,
    version: VersionRow,
    *,
    labels: Sequence[str],
    count: int,
    seed: int,
    format: str,
) -> SampleRow:
    """Record an ask for images, so that the same pixels can be drawn again."""
    sample = SampleRow(
        id=new_id("smp"),
        model_id=model.id,
        version=version.number,
        labels=list(labels),
        count=count,
        seed=seed,
        format=format,
    )
    session.add(sample)
    session.flush()
    return sample


def find_sample(session: Session, sample_id: str) -> SampleRow:
    """The recorded ask of that id. Raises UnknownSample."""
    sample = session.get(SampleRow, sample_id)
    if sample is None:
        raise UnknownSample(sample_id)
    return sample
