"""The data model of a receipt: an in-toto Statement v1 about the files of the version a forget published.

docs/forget-receipt.md says what each field means. Signed receipts contain the JSON names, so these cannot
change; where one of them is unclear, the attribute has a clearer name and an alias. The signature covers the
bytes of the statement, so a reader verifies the signature first and parses afterwards.
"""

import json
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from securesystemslib.dsse import Envelope

from reports import Criterion, Guarantee, JudgeSummary, LabelFigure, LabelGroup, Level, Report
from reports.release_0_1 import upgrade_receipt_figures

PAYLOAD_TYPE = "application/vnd.in-toto+json"
MEDIA_TYPE = "application/vnd.in-toto.forget-receipt+dsse"
"""Media type of the whole receipt, named after its predicate as the in-toto specification asks."""

RELEASE_0_1 = "urn:palimpsest:forget-receipt:v1"
"""Predicate type of the receipts of release 0.1.0, whose figures have the shape of its reports."""

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, StringConstraints(pattern=r"^[^/\x00-\x1f]+$")]


class Part(BaseModel):
    """Base of all parts of a statement: immutable, and without other fields than those declared."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Digest(Part):
    sha256: Sha256


class Subject(Part):
    """A file of the version that the forget published."""

    name: FileName
    digest: Digest


class ModelIdentity(Part):
    id: str
    name: str


class ParentVersion(Part):
    version: int
    manifest_sha256: Sha256 | None


class Also(Part):
    """What else the forget had to delete: the images of its labels, from uploaded datasets."""

    datasets: bool


class ForgetRequest(Part):
    """The request, as it was frozen in the job's row."""

    labels: list[str]
    strategy: str
    params: dict[str, Any]
    seed: int
    acceptance: dict[str, Any]
    purge: bool
    reference: str | None = None
    """The client's own name for the request."""
    also: Also | None = None


class StrategyPackage(Part):
    """The installed package that brought the strategy, as the manifest names it."""

    name: str
    version: str


class ReceiptFigures(Part):
    """What was measured before the version was published. Of the retained labels there is only the mean."""

    level: Level
    judge: dict[str, JudgeSummary]
    retained: LabelFigure
    forgotten: LabelGroup
    criteria: tuple[Criterion, ...]

    @classmethod
    def of(cls, report: Report) -> "ReceiptFigures":
        """Take the figures of a receipt from a report."""
        retained = {name: getattr(report.retained, name) for name in LabelFigure.model_fields}
        return cls(
            level=report.level,
            judge=report.judge,
            retained=LabelFigure(**retained),
            forgotten=report.forgotten,
            criteria=report.criteria,
        )


class ErasureEntry(Part):
    """A store that can hold data of a label, and what the forget did there."""

    store: str
    state: str
    detail: str


OlderState = Literal["purged", "deleted", "revoked", "kept"]


class OlderVersion(Part):
    """An earlier version that holds a forgotten label, or was made after a version that learned it."""

    version: int
    labels: list[str] = Field(alias="lists")
    state: OlderState
    files: dict[FileName, Sha256]


class StoredFile(Part):
    """A file that a purge deleted or kept."""

    version: int
    file: FileName
    sha256: Sha256
    bytes: int
    reason: str | None = None
    """Of a kept file: why something of it is left. Null if another version needs it."""


class PurgeRecord(Part):
    """The files that a purge deleted, and those that another version needs, or a bucket keeps."""

    reason: Literal["requested", "retention"]
    deleted: list[StoredFile] = Field(alias="keys_gone")
    kept: list[StoredFile] = Field(alias="keys_kept")
    finished_at: datetime


class DeletedImages(Part):
    """The images that were deleted from an uploaded dataset."""

    dataset: str
    labels: dict[str, int]
    """{label of the dataset: how many images it had}."""
    whole: bool
    """Whether no label was left, so that the dataset was deleted."""
    sha256: Sha256
    """The file that held the images."""
    replaced_by: Sha256 | None
    """The file with the images of the other labels."""
    kept: bool
    """Whether the old file was not deleted, because another dataset has the same images."""
    remains: str | None = None
    """Why a bucket keeps old versions of the old file."""


class ImageErasureRecord(Part):
    """The images that the forget deleted from uploaded datasets."""

    labels: list[str]
    """The labels of the model whose images were to be deleted."""
    datasets: list[DeletedImages]
    finished_at: datetime


class LabelElsewhere(Part):
    """A label of another model, learned from the same images. `count`: of its recorded samples."""

    model: str
    name: str
    label: str
    status: str | None = None
    count: int | None = None


class DatasetLabel(Part):
    """A label of an uploaded dataset."""

    dataset: str
    label: str


class Elsewhere(Part):
    """What else of the project held labels learned from the same images.

    When the forget was published, or when it had deleted images.
    """

    models: list[LabelElsewhere]
    datasets: list[DatasetLabel]
    samples: list[LabelElsewhere]


class Predicate(Part):
    """What the receipt states about the forget."""

    meaning: str = Field(alias="says")
    job: str
    model: ModelIdentity
    version: int
    parent: ParentVersion | None
    request: ForgetRequest = Field(alias="asked")
    seed_used: int | None
    code: str | None
    package: StrategyPackage | None = None
    """Null if the strategy is built in."""
    guarantee: Guarantee
    figures: ReceiptFigures
    erasure: list[ErasureEntry] = Field(alias="stores")
    older_versions: list[OlderVersion]
    purge: PurgeRecord | None
    image_erasure: ImageErasureRecord | None = None
    elsewhere: Elsewhere | None = None
    accepted_at: datetime
    published_at: datetime


class Statement(Part):
    """What a receipt's signature covers."""

    type: Literal["https://in-toto.io/Statement/v1"] = Field("https://in-toto.io/Statement/v1", alias="_type")
    subject: list[Subject] = Field(min_length=1)
    predicate_type: Literal["urn:palimpsest:forget-receipt:v1", "urn:palimpsest:forget-receipt:v2"] = Field(
        "urn:palimpsest:forget-receipt:v2", alias="predicateType"
    )
    predicate: Predicate

    def to_payload(self) -> bytes:
        """Return the bytes that are signed. Equal statements give equal bytes."""
        document = self.model_dump(mode="json", by_alias=True)
        return json.dumps(document, sort_keys=True, ensure_ascii=False, allow_nan=False).encode()


def read_statement(payload: bytes) -> Statement:
    """Parse a signed statement of this release, or of release 0.1.0 with its figures in today's types.

    Raises ValueError, of which pydantic's ValidationError is one.
    """
    document = json.loads(payload)
    if isinstance(document, dict) and document.get("predicateType") == RELEASE_0_1:
        document = {**document, "predicate": _upgrade_predicate(document["predicate"])}
    return Statement.model_validate(document)


def _upgrade_predicate(old: dict[str, Any]) -> dict[str, Any]:
    """The predicate of a receipt that release 0.1.0 signed, in today's shape."""
    new = {**old, "figures": upgrade_receipt_figures(old["figures"])}
    if old["purge"] is not None and old["purge"]["reason"] == "asked":
        new["purge"] = {**old["purge"], "reason": "requested"}
    return new


def encode_receipt(envelope: Envelope) -> bytes:
    """Encode an envelope as a receipt file. There is one encoding, so that a changed byte is noticed."""
    document = envelope.to_dict()
    document["signatures"] = [{"keyid": one["keyid"], "sig": one["sig"]} for one in document["signatures"]]
    return (json.dumps(document, indent=2, sort_keys=True) + "\n").encode()
