"""The signed receipt of a deleted model: which of its files were deleted, and what is kept."""

import json
from collections.abc import Sequence
from hashlib import sha256

from sqlalchemy.orm import Session

from service.receipts.deletion_statement import DeletionPredicate, DeletionStatement
from service.receipts.erasure import NAMES_IN_RECORDS, describe_bucket, describe_exports
from service.receipts.signing import SigningKey
from service.receipts.statement import (
    PAYLOAD_TYPE,
    Digest,
    ErasureEntry,
    ModelIdentity,
    StoredFile,
    Subject,
    encode_receipt,
)
from service.registry import export_clearing, labels
from service.registry.database import Database
from service.registry.tables import ExportRow, ModelDeletionRow, ModelRow

MEANING = (
    "The files named here were deleted, each by {how}. Nothing here proves that no copy of them is left."
)
UNLINKED, DELETED = "unlinking it", "deleting the object and its old versions from a bucket"
ERASURE = {
    "versions": ("deleted", "All files of every version, reports and manifests included, and full reports."),
    "database": (
        "kept",
        "The database keeps names, parameters, measurements and hashes of the model, its jobs and versions, "
        "the names of their labels and of files named after labels included, "
        "what clients wrote about them, "
        "and the receipts of its forgets and of this deletion. It keeps no image of the model.",
    ),
    "recorded samples": ("refused", "They are lists of labels with a seed, and are not drawn again."),
    "datasets": ("kept", "The deletion changes nothing in the real images that the model learned from."),
    "judges and feature networks": ("kept", "They are trained on whole datasets, and belong to no model."),
    **NAMES_IN_RECORDS,
    "backups": ("not reached", "Copies that somebody made are outside this service."),
}


def sign_receipt(database: Database, key: SigningKey, model_id: str, *, in_bucket: bool) -> str | None:
    """Sign the receipt of a purge that is done, and return it; None while files are still to be deleted.

    in_bucket: whether the files were objects in a bucket.
    """
    with database.transaction() as session:
        row = session.get_one(ModelDeletionRow, model_id, with_for_update=True, populate_existing=True)
        if row.envelope is None and row.state == "done":
            payload = build_statement(session, row, in_bucket=in_bucket).to_payload()
            row.envelope = encode_receipt(key.sign(payload, PAYLOAD_TYPE)).decode()
        return row.envelope


def build_statement(session: Session, row: ModelDeletionRow, *, in_bucket: bool) -> DeletionStatement:
    """Build the statement of the deletion. It depends on the rows only, not on the time of signing."""
    model = session.get_one(ModelRow, row.model_id)
    identity = {"id": model.id, "name": model.name, "dataset": model.dataset, "network": model.network}
    digest = sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    assert row.finished_at is not None, "a deletion that is done has ended"
    exported = export_clearing.find_of_model(session, model.id)
    left = [file["reason"] for file in row.kept if file.get("reason")]
    left += export_clearing.summarise_removed(exported).left
    return DeletionStatement(
        subject=[Subject(name=model.id, digest=Digest(sha256=digest))],
        predicate=DeletionPredicate(
            meaning=MEANING.format(how=DELETED if in_bucket else UNLINKED),
            model=ModelIdentity(id=model.id, name=model.name),
            labels=sorted(labels.find_all(session, model.id)),
            reference=row.reference,
            deleted=[StoredFile(**file) for file in row.keys],
            kept=[StoredFile(**file) for file in row.kept],
            erasure=[
                *(
                    ErasureEntry(store=store, state=state, detail=detail)
                    for store, (state, detail) in ERASURE.items()
                ),
                _exports(exported),
                *([describe_bucket(left, deleted=True)] if in_bucket else []),
            ],
            requested_at=row.created_at,
            finished_at=row.finished_at,
        ),
    )


def _exports(rows: Sequence[ExportRow]) -> ErasureEntry:
    if not rows:
        return ErasureEntry(store="exports", state="none", detail="The model had no exports.")
    return describe_exports("Exports of the model", rows)
