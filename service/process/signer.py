"""What the process that signs receipts does at its start: check the erasure log, make and publish its key.

Where PALIMPSEST_SIGNER is false, another process does so.
"""

import logging

from service.process.errors import CannotStart
from service.receipts.signing_keys import find_key, publish
from service.recovery import erasure_log
from service.registry.database import Database
from service.registry.errors import SigningKeyUnusable
from service.settings import Settings

log = logging.getLogger(__name__)


def refuse_older_than_erasures(database: Database, deployment: Settings) -> None:
    """Raise CannotStart if the erasure log has erasures that the database does not know."""
    if not deployment.signer:
        return
    path = deployment.erasure_log
    try:
        erasures = erasure_log.read(path) if path.exists() else []
    except (OSError, erasure_log.UnreadableLog) as error:
        raise CannotStart(f"cannot read the erasure log: {error}") from error
    with database.reading() as session:
        unknown = erasure_log.find_unknown(session, erasures)
        missing = erasure_log.find_missing(session, erasures)
    if missing and not unknown:
        log.error("the erasure log %s lacks %d of its lines: they are written again", path, len(missing))
        with database.transaction() as session:
            erasure_log.write_again(session)
    if unknown:
        raise CannotStart(
            f"the database is older than {len(unknown)} erasures in {path}, such as {unknown[0].id}: it "
            "was restored; run `palimpsest replay-erasures`, and what was forgotten since is forgotten again"
        )


def make_signing_key(database: Database, deployment: Settings) -> None:
    """Make the key of the first receipts. One that was lost stops no other work, and is not replaced."""
    if not deployment.signer:
        return
    try:
        find_key(database, deployment.keys)
        publish(database, deployment.keys)
    except SigningKeyUnusable as error:
        log.error("no receipt can be signed: %s", error)
