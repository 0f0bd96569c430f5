"""Which signing keys a deployment needs: one that signs, and the public half of each that ever did.

Without the key of its receipts, a deployment must not sign with a new one: every older receipt would count as
forged, and nobody would notice. So a key is made only while nothing is signed, or if the operator says so.
"""

import json
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.receipts.signing import PRIVATE, SigningKey, list_public_keys, load_signing_key
from service.registry.database import Database
from service.registry.errors import SigningKeyUnusable
from service.registry.tables import ModelDeletionRow, ReceiptRow

MISSING = (
    f"{PRIVATE} is missing, and there are receipts that it signed: restore PALIMPSEST_HOME/keys from a "
    "backup, or make a new key with `palimpsest keys rotate-signing --without-old`"
)
SIGNED = (ReceiptRow.envelope, ModelDeletionRow.envelope)


def find_key(database: Database, folder: Path) -> SigningKey:
    """Load the key that signs receipts; make one if nothing was signed yet.

    Raises SigningKeyUnusable, DatabaseUnavailable.
    """
    if (reason := describe_loss(database, folder)) is not None:
        raise SigningKeyUnusable(reason)
    return load_signing_key(folder)


def describe_loss(database: Database, folder: Path) -> str | None:
    """Say that the key is missing although it signed receipts; None if all is well. Cheap."""
    if (folder / PRIVATE).exists():
        return None
    with database.reading() as session:
        signed = any(session.scalar(select(one).where(one.is_not(None)).limit(1)) for one in SIGNED)
    return MISSING if signed else None


def find_unpublished(session: Session, folder: Path) -> set[str]:
    """Return the ids of keys that signed receipts and have no public half in the folder. Reads all receipts.

    Raises SigningKeyUnusable.
    """
    used = {
        str(signature["keyid"])
        for envelope in SIGNED
        for text in session.scalars(select(envelope).where(envelope.is_not(None)))
        for signature in json.loads(text or "{}").get("signatures", ())
    }
    return used - {key.keyid for key in list_public_keys(folder)} if used else set()
