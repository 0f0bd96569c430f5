"""The shape of a receipt: an in-toto Statement v1 about the files of the version a forget published.

docs/forget-receipt.md says what each field means. What is signed is these very bytes, so a reader checks the
signature first and parses afterwards.
"""

import json
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from securesystemslib.dsse import Envelope

PAYLOAD_TYPE = "application/vnd.in-toto+json"
MEDIA_TYPE = "application/vnd.in-toto.forget-receipt+dsse"
"""Of the whole receipt, as the in-toto specification names envelopes by their predicate."""

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, StringConstraints(pattern=r"^[^/\x00-\x1f]+$")]


class Part(BaseModel):
    """A piece of the statement: exactly these fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Digest(Part):
    sha256: Sha256


class Subject(Part):
    name: FileName
    digest: Digest


class Named(Part):
    id: str
    name: str


class Parent(Part):
    version: int
    manifest_sha256: Sha256 | None


class Asked(Part):
    """The request, as it was frozen in the job's row."""

    labels: list[str]
    strategy: str
    params: dict[str, Any]
    seed: int
    acceptance: dict[str, Any]
    purge: bool


class Store(Part):
    """A place where something of a label can be, and what happened there."""

    store: str
    state: str
    detail: str


class OlderVersion(Part):
    """A version from before that lists a forgotten label or was made after one learned it."""

    version: int
    lists: list[str]
    state: Literal["purged", "revoked", "kept"]
    files: dict[FileName, Sha256]


class Key(Part):
    """A file of a sealed version, by the name of its artifact."""

    version: int
    file: FileName
    sha256: Sha256
    bytes: int


class Purged(Part):
    reason: Literal["requested", "retention", "asked"]
    """`asked` is what receipts signed by release 0.1.0 say for `requested`."""
    keys_gone: list[Key]
    keys_kept: list[Key]
    finished_at: datetime


class Predicate(Part):
    says: str
    job: str
    model: Named
    version: int
    parent: Parent | None
    asked: Asked
    seed_used: int | None
    code: str | None
    guarantee: str
    figures: dict[str, Any]
    stores: list[Store]
    older_versions: list[OlderVersion]
    purge: Purged | None
    accepted_at: datetime
    published_at: datetime


class Statement(Part):
    type: Literal["https://in-toto.io/Statement/v1"] = Field("https://in-toto.io/Statement/v1", alias="_type")
    subject: list[Subject] = Field(min_length=1)
    predicate_type: Literal["urn:palimpsest:forget-receipt:v1"] = Field(
        "urn:palimpsest:forget-receipt:v1", alias="predicateType"
    )
    predicate: Predicate

    def to_payload(self) -> bytes:
        """The bytes that are signed: equal statements give equal ones."""
        document = self.model_dump(mode="json", by_alias=True)
        return json.dumps(document, sort_keys=True, ensure_ascii=False, allow_nan=False).encode()


def receipt_bytes(envelope: Envelope) -> bytes:
    """The one way an envelope is written down: a receipt with any other byte in it is not one of ours."""
    document = envelope.to_dict()
    document["signatures"] = [{"keyid": one["keyid"], "sig": one["sig"]} for one in document["signatures"]]
    return (json.dumps(document, indent=2, sort_keys=True) + "\n").encode()
