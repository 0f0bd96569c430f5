"""A signed receipt without a service: a statement by hand, a key of the test's own."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from service.receipts.signing import SigningKey, load_signing_key
from service.receipts.statement import (
    PAYLOAD_TYPE,
    Digest,
    ErasureEntry,
    ForgetRequest,
    ModelIdentity,
    OlderVersion,
    Predicate,
    ReceiptFigures,
    Statement,
    Subject,
    encode_receipt,
)
from tests.reports.made_up import quick_report

FILES = {"decoder.onnx": b"a decoder", "isolated-a label-decoder.onnx": b"another", "manifest.json": b"{}"}
MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@dataclass(frozen=True)
class Signed:
    """A receipt on the disk, with what belongs to it."""

    file: Path
    key: SigningKey
    public: Path
    files: Path

    @property
    def data(self) -> bytes:
        return self.file.read_bytes()


def statement() -> Statement:
    return Statement(
        subject=[
            Subject(name=name, digest=Digest(sha256=hashlib.sha256(data).hexdigest()))
            for name, data in FILES.items()
        ],
        predicate=Predicate(
            meaning="performed, measured",
            job="job_1",
            model=ModelIdentity(id="mdl_1", name="pages"),
            version=2,
            parent=None,
            request=ForgetRequest(
                labels=["3", "é"], strategy="surrogate", params={}, seed=2**53 - 1, acceptance={}, purge=False
            ),
            seed_used=2**62 + 1,
            code="palimpsest 1",
            guarantee="approximate",
            figures=ReceiptFigures.of(quick_report(["1"], {"3": 0.01})),
            erasure=[ErasureEntry(store="weights", state="changed", detail="by surrogate")],
            older_versions=[OlderVersion(version=1, labels=["3"], state="revoked", files={})],
            purge=None,
            accepted_at=MOMENT,
            published_at=MOMENT,
        ),
    )


@pytest.fixture
def signed(tmp_path: Path) -> Signed:
    key = load_signing_key(tmp_path / "keys")
    receipt = tmp_path / "receipt.json"
    receipt.write_bytes(encode_receipt(key.sign(statement().to_payload(), PAYLOAD_TYPE)))
    files = tmp_path / "files"
    files.mkdir()
    for name, data in FILES.items():
        (files / name).write_bytes(data)
    return Signed(receipt, key, tmp_path / "keys" / "signing.pub.pem", files)
