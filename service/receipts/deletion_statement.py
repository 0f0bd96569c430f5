"""The data model of a deletion receipt: an in-toto Statement v1 about a model that was purged."""

import json
from datetime import datetime
from typing import Literal

from pydantic import Field

from service.receipts.statement import ErasureEntry, ModelIdentity, Part, StoredFile, Subject

PREDICATE_TYPE = "urn:palimpsest:model-deletion-receipt:v1"


class DeletionPredicate(Part):
    """What the receipt states about the deletion."""

    meaning: str
    model: ModelIdentity
    labels: list[str]
    """Every label that the model ever learned."""
    reference: str | None
    """The client's own name for the request."""
    deleted: list[StoredFile]
    """The files whose artifacts were deleted. A report of a candidate that was rejected has the version 0."""
    kept: list[StoredFile]
    """The files whose artifacts other models need, because they have the same bytes. With a `reason`: files
    of which a bucket keeps old versions."""
    erasure: list[ErasureEntry]
    requested_at: datetime
    finished_at: datetime


class DeletionStatement(Part):
    """What the signature of a deletion receipt covers. The subject is the hash of the model's identity."""

    type: Literal["https://in-toto.io/Statement/v1"] = Field("https://in-toto.io/Statement/v1", alias="_type")
    subject: list[Subject] = Field(min_length=1)
    predicate_type: Literal["urn:palimpsest:model-deletion-receipt:v1"] = Field(
        "urn:palimpsest:model-deletion-receipt:v1", alias="predicateType"
    )
    predicate: DeletionPredicate

    def to_payload(self) -> bytes:
        """Return the bytes that are signed. Equal statements give equal bytes."""
        document = self.model_dump(mode="json", by_alias=True)
        return json.dumps(document, sort_keys=True, ensure_ascii=False, allow_nan=False).encode()
