"""Errors of the database, of files, and of the space for both."""

from service.registry.errors.base import RegistryError


class ArtifactMissing(RegistryError):
    code = "artifact_missing"
    cause = "A file that the answer needs is not in the artifact store."
    cure = "Whoever runs the service restores it from a backup; `palimpsest doctor` lists what is missing."

    def __init__(self, sha256: str) -> None:
        super().__init__(f"artifact {sha256} is not in the artifact store; restore it from a backup")


class ArtifactUnreadable(RegistryError):
    code = "artifact_unreadable"
    cause = "A file that the answer needs cannot be read."
    cure = "Whoever runs the service repairs the disk of the artifact store; then send the request again."

    def __init__(self, sha256: str, reason: str) -> None:
        super().__init__(
            f"artifact {sha256} cannot be read ({reason}); repair the artifact store and try again"
        )


class ArtifactCorrupt(RegistryError):
    """The bytes of an artifact are not those that were stored, or do not have the expected format."""

    code = "artifact_corrupt"
    cause = "A file that the answer needs does not have the bytes that were stored."
    cure = "Whoever runs the service restores it from a backup; `palimpsest doctor` lists what is damaged."


class SigningKeyUnusable(RegistryError):
    code = "signing_key_unusable"
    cause = "The key that signs receipts is missing or damaged."
    cure = "Whoever runs the service restores `keys` in its home from a backup."

    def __init__(self, reason: str) -> None:
        super().__init__(f"the deployment's signing key cannot be used: {reason}")


class DatabaseUnavailable(RegistryError):
    code = "database_unavailable"
    cause = "The database does not answer, or not in time."
    cure = "Send the request again in a moment; GET /readyz tells whether it is back."

    def __init__(self, reason: str, *, has_answered: bool = False) -> None:
        """has_answered: the database is there, but could not do this in time."""
        self.reason = reason  # for the log: it may name hosts and files
        self.has_answered = has_answered
        super().__init__("the database does not answer; try again in a moment")


class StorageFull(RegistryError):
    """Less space is free than the reserve, which only forget requests and running jobs may use."""

    code = "storage_full"
    cause = "The disk has less free space than the reserve, or is full."
    cure = "Whoever runs the service frees some space; reading, drawing and forgetting go on meanwhile."

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what}, so nothing new is stored; free some space, then try again. Reading, drawing and "
            "forgetting go on"
        )


class DatabaseFull(DatabaseUnavailable):
    """The database cannot write, because its disk is full. It can still be read."""

    code = "storage_full"
    cause = StorageFull.cause
    cure = StorageFull.cure

    def __init__(self, reason: str) -> None:
        super().__init__(reason, has_answered=True)
        self.args = ("the database's disk is too full to record this; free some space, then try again",)


class DatabaseMoved(DatabaseUnavailable):
    """Another file, or none, has the name of the SQLite file that this process opened."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, has_answered=True)
        self.args = (
            "the database file was moved, deleted or replaced while the service runs, so nothing is written; "
            "the operator has to put it back, or to start the service again with the right one",
        )


class StoreUnusable(RegistryError):
    """The database or the artifact store is not this deployment's, or cannot be used."""

    code = "store_unusable"
    cause = "The database or the artifact store belongs to another deployment, or cannot be used."
    cure = "Whoever runs the service sets its address to the right one; the message tells what was found."


class DatabaseTooNew(RegistryError):
    code = "database_too_new"
    cause = "A newer release has migrated the database."
    cure = "Install that release, or a newer one."

    def __init__(self, revision: str) -> None:
        super().__init__(
            f"the database is at revision {revision}, which this release does not know; "
            "install the release that migrated it, or a newer one"
        )


class DatabaseEncoding(RegistryError):
    code = "database_encoding"
    cause = "The encoding of the PostgreSQL database lacks characters that labels may have."
    cure = "Create the database with ENCODING 'UTF8'."

    def __init__(self, encoding: str) -> None:
        super().__init__(
            f"the encoding of the database is {encoding}, which lacks characters that labels may have; "
            "create the database with ENCODING 'UTF8'"
        )
