"""One process signs receipts and has the key; the others have neither it nor the erasure log."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.process import sweeper
from service.process.signer import make_signing_key
from service.receipts.signing import parse_public_key
from service.receipts.verification import verify_receipt
from service.settings import Settings
from tests.api.serving import Served, serving


@pytest.fixture
def served(bucket_url: str, tmp_path: Path) -> Iterator[Served]:
    """An API that does not sign."""
    url = f"sqlite:///{tmp_path / 'palimpsest.db'}"
    with serving(
        Settings(home=tmp_path / "api", database_url=url, artifacts_url=bucket_url, signer=False)
    ) as served:
        yield served


@pytest.fixture
def signer(served: Served, tmp_path: Path) -> Settings:
    """The settings of the process that signs: on another machine, with the key as a mounted secret."""
    home, keys = tmp_path / "signer", tmp_path / "secret"
    return served.settings.model_copy(
        update={"home": home, "keys": keys, "erasure_log": home / "erasures.jsonl", "signer": True}
    )


def test_receipts_are_signed_by_the_signer_and_verify_with_the_keys_that_every_api_lists(
    served: Served, signer: Settings
) -> None:
    served.model("m")
    served.done("m", "learn", labels=["1", "2"])
    job = served.done("m", "forget", labels=["2"], purge=True).job_id
    served.sweep()
    receipt = f"/v1/jobs/{job}/receipt"
    waiting = served.http.get(receipt)
    assert (waiting.status_code, waiting.json()["code"]) == (409, "receipt_not_ready")
    unsigned = served.http.get("/v1/signing-keys")
    assert (unsigned.status_code, unsigned.json()["code"]) == (503, "signing_key_unusable")
    assert served.http.get("/readyz").json()["checks"]["signing key"] == "ok"

    make_signing_key(served.worker.database, signer)
    sweeper.sweep(served.worker.database, signer)
    signed = served.http.get(receipt)
    assert signed.status_code == 200
    [key] = served.http.get("/v1/signing-keys").json()["data"]
    assert served.http.get("/v1/keys/signing").json() == key
    verified = verify_receipt(signed.content, parse_public_key(key["public_key"].encode()))
    assert verified.forget.job == job
    assert not served.settings.keys.exists()
    assert not served.settings.erasure_log.exists()
    assert signer.erasure_log.read_text().count("\n") == 1


def test_a_deleted_model_gets_its_receipt_from_the_signer(served: Served, signer: Settings) -> None:
    model = served.model("m")["id"]
    served.done("m", "learn", labels=["1"])
    assert served.http.delete("/v1/models/m?purge=true").status_code == 202
    served.sweep()
    receipt = f"/v1/models/{model}/deletion/receipt"
    assert served.http.get(receipt).json()["code"] == "receipt_not_ready"
    make_signing_key(served.worker.database, signer)
    sweeper.sweep(served.worker.database, signer)
    assert served.http.get(receipt).status_code == 200
    assert served.http.get(f"/v1/models/{model}/deletion").json()["files_deleted"] > 0
