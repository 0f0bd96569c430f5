"""Where else a project holds what a forget was about: labels learned from the same images.

Two labels have the same images if they were learned from the same label of the same dataset, or from labels
of uploaded datasets whose images are the same, whatever their order and names.
"""

import json
from collections.abc import Collection
from typing import Any

from sqlalchemy import Text, cast, func, select
from sqlalchemy.orm import Session

from service.registry import datasets, labels
from service.registry.labels import Source
from service.registry.tables import LabelRow, ModelRow, SampleRow


def find_elsewhere(session: Session, model: ModelRow, names: Collection[str]) -> dict[str, Any]:
    """Return what else of the model's project holds labels learned from the same images as these.

    names: labels of the model. Other labels of the same model count, too.
    The result is JSON: `models` with a label that is not forgotten; uploaded `datasets` with the images
    themselves; recorded `samples` of those models, which can be drawn again.
    """
    known = labels.find_all(session, model.id)
    sources = {(known[name].dataset, known[name].source) for name in names if name in known}
    uploads = _find_uploads(session, model.project_id, sources)
    found = _find_labels(session, model, names, sources | uploads)
    return {
        "models": [
            {"model": other.id, "name": other.name, "label": label.name, "status": label.status}
            for other, label in found
        ],
        "datasets": [{"dataset": dataset, "label": label} for dataset, label in sorted(uploads)],
        "samples": [
            {"model": other.id, "name": other.name, "label": label.name, "count": count}
            for other, label in found
            if (count := _count_samples(session, other, label.name))
        ],
    }


def _find_uploads(session: Session, project: str, sources: Collection[Source]) -> set[Source]:
    """Return the labels of uploaded datasets whose images are those of the sources."""
    rows = datasets.list_all(session, project=project)
    digests = {
        (row.name, label): (row.label_digests or {}).get(label) for row in rows for label in row.images
    }
    same = {digests[source] for source in sources if digests.get(source)}
    return {source for source, digest in digests.items() if source in sources or digest in same}


def _find_labels(
    session: Session, model: ModelRow, names: Collection[str], sources: Collection[Source]
) -> list[tuple[ModelRow, LabelRow]]:
    """Return the labels that models of the project hold and learned from one of the sources."""
    query = (
        select(ModelRow, LabelRow)
        .join(LabelRow, LabelRow.model_id == ModelRow.id)
        .where(
            ModelRow.project_id == model.project_id,
            ModelRow.deleted_at.is_(None),
            LabelRow.status != "forgotten",
            LabelRow.dataset.in_({dataset for dataset, _ in sources}),
        )
        .order_by(ModelRow.name, LabelRow.name)
    )
    return [
        (other, label)
        for other, label in session.execute(query)
        if (label.dataset, label.source) in sources and not (other.id == model.id and label.name in names)
    ]


def _count_samples(session: Session, model: ModelRow, label: str) -> int:
    """Count the recorded samples of the model that contain the label. Their labels are JSON."""
    contains = cast(SampleRow.labels, Text).contains(json.dumps(label), autoescape=True)
    query = select(func.count()).select_from(SampleRow).where(SampleRow.model_id == model.id, contains)
    return session.scalar(query) or 0
