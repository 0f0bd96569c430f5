"""Which signing keys a deployment needs: one that signs, and the public half of each that ever did.

The private key is for the signer alone. It publishes the public halves in the database, for the processes
that do not sign (PALIMPSEST_SIGNER).

Without the key of its receipts, a deployment must not sign with a new one: every older receipt would count as
forged, and nobody would notice. So a key is made only while nothing is signed, or if the operator says so.
"""

import json
from datetime import datetime
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.receipts.signing import (
    PRIVATE,
    PublishedKey,
    SigningKey,
    list_public_keys,
    load_signing_key,
)
from service.registry.database import Database
from service.registry.errors import SigningKeyUnusable
from service.registry.tables import FactRow, ModelDeletionRow, ReceiptRow
from service.settings import Settings

MISSING = (
    f"{PRIVATE} is missing, and there are receipts that it signed: restore PALIMPSEST_HOME/keys from a "
    "backup, or make a new key with `palimpsest keys rotate-signing --without-old`"
)
PUBLISHED = "signing_keys"
"""The fact with the public halves of all keys, the current one first."""
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


def publish(database: Database, folder: Path) -> None:
    """Publish the public halves of the keys in the folder, for the processes that do not have it.

    Raises SigningKeyUnusable, DatabaseUnavailable.
    """
    keys = [
        {
            "keyid": key.keyid,
            "public_pem": key.public_pem,
            "created_at": key.created_at and key.created_at.isoformat(),
            "retired_at": key.retired_at and key.retired_at.isoformat(),
        }
        for key in list_public_keys(folder)
    ]
    with database.reading() as session:
        fact = session.get(FactRow, PUBLISHED)
    if fact is None or fact.value != {"keys": keys}:
        with database.transaction() as session:
            session.merge(FactRow(name=PUBLISHED, value={"keys": keys}))


def list_keys(database: Database, deployment: Settings) -> list[PublishedKey]:
    """List the public halves of all keys that sign or signed receipts, the current one first.

    Raises SigningKeyUnusable, DatabaseUnavailable.
    """
    if deployment.signer:
        return list_public_keys(deployment.keys)
    with database.reading() as session:
        fact = session.get(FactRow, PUBLISHED)
    if fact is None:
        raise SigningKeyUnusable("the process that signs receipts has not published its key yet")
    return [
        PublishedKey(
            keyid=key["keyid"],
            public_pem=key["public_pem"],
            created_at=key["created_at"] and datetime.fromisoformat(key["created_at"]),
            retired_at=key["retired_at"] and datetime.fromisoformat(key["retired_at"]),
        )
        for key in fact.value["keys"]
    ]


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
