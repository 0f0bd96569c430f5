"""`palimpsest verify`: a receipt is genuine to the last byte, or the one line says what is not."""

import base64
import hashlib
import json
import os
import re
from pathlib import Path
from subprocess import CompletedProcess, run
from sys import executable
from typing import Any

import httpx2
import pytest
from rich.console import Console

from reports import at_most
from service.receipts.printing import print_receipt
from service.receipts.signing import load_signing_key, parse_public_key
from service.receipts.statement import PAYLOAD_TYPE, ReceiptFigures, encode_receipt, read_statement
from service.receipts.verification import (
    CannotVerify,
    NotGenuine,
    VerifiedReceipt,
    fetch_keys,
    verify_receipt,
)
from service.registry.artifacts import FolderArtifacts
from tests.receipts.conftest import FILES, Signed, statement
from tests.reports.made_up import WEAK, by_weak_judge, quick_report


def verify(signed: Signed, *options: object) -> CompletedProcess[str]:
    """`palimpsest verify` in a process of its own, with a home that holds nothing."""
    command = [executable, "-m", "commands", "verify", signed.file, *options]
    environment = {**os.environ, "PALIMPSEST_HOME": str(signed.file.parent / "nothing"), "COLUMNS": "160"}
    return run(list(map(str, command)), capture_output=True, text=True, env=environment)


def test_a_genuine_receipt_is_shown_and_its_files_are_compared(signed: Signed) -> None:
    ended = verify(signed, "--key", signed.public, "--files", signed.files)
    assert (ended.returncode, ended.stderr) == (0, "")
    *_, last = ended.stdout.splitlines()
    assert last == (
        f"{signed.file} is genuine, signed by {signed.key.keyid[:16]}; {len(FILES)} files match the receipt"
    )
    assert "3, é of model pages" in ended.stdout
    assert (
        "95.10% of 1000 drawn images recognised as their label, 95 % interval 94.10% to 96.10%"
        in ended.stdout
    )


def test_figures_of_a_weak_judge_are_printed_with_the_reason(signed: Signed) -> None:
    figures = ReceiptFigures.of(by_weak_judge(quick_report(["1"], {"3": 0.01})))
    made = statement()
    predicate = made.predicate.model_copy(update={"figures": figures})
    verified = VerifiedReceipt(made.model_copy(update={"predicate": predicate}), signed.key.keyid, (), ())
    console = Console(width=300, markup=False)
    with console.capture() as printed:
        print_receipt(console, "receipt.json", verified)
    shown = " ".join(printed.get().split())
    assert f"criteria 1 of 1 met; {WEAK}" in shown
    for share in ("95.10%", "1.00%"):
        assert re.search(rf"{share} of 1000 [^;]*; no verdict: {re.escape(WEAK)}", shown)


def test_a_changed_file_is_named_and_the_exit_code_is_1(signed: Signed) -> None:
    (signed.files / "decoder.onnx").write_bytes(b"A decoder")
    ended = verify(signed, "--key", signed.public, "--files", signed.files)
    [line] = ended.stderr.splitlines()
    assert (ended.returncode, ended.stdout) == (1, "")
    assert line == (
        f"palimpsest: {signed.file} is NOT genuine: {signed.files / 'decoder.onnx'} is not the decoder.onnx "
        "that the receipt names: its sha256 differs"
    )


def test_without_a_key_nothing_is_believed(signed: Signed) -> None:
    ended = verify(signed)
    [line] = ended.stderr.splitlines()
    assert ended.returncode == 1
    assert "is not verified" in line
    assert "--key" in line


SPACES = b" \t\n\r"


def test_every_single_changed_byte_makes_it_fail(signed: Signed) -> None:
    """Each byte with one bit turned, and another (which is a letter's case); each space by every other."""
    key, data = parse_public_key(signed.public.read_bytes()), signed.data
    verify_receipt(data, key)
    for at, byte in enumerate(data):
        others = {byte ^ 0x01, byte ^ 0x20, *(SPACES if byte in SPACES else b"")} - {byte}
        for other in others:
            with pytest.raises(NotGenuine):
                verify_receipt(data[:at] + bytes([other]) + data[at + 1 :], key)


def test_an_added_or_lost_byte_makes_it_fail(signed: Signed) -> None:
    key, data = parse_public_key(signed.public.read_bytes()), signed.data
    for at in [*range(0, len(data), 7), len(data) - 1]:
        for changed in (
            data[:at] + data[at + 1 :],
            data[:at] + b" " + data[at:],
            data[:at] + b"=" + data[at:],
        ):
            with pytest.raises(NotGenuine):
                verify_receipt(changed, key)
    for changed in (b"", data[:-1], data + b"\n", b"\xef\xbb\xbf" + data, data.replace(b"\n", b"\r\n")):
        with pytest.raises(NotGenuine):
            verify_receipt(changed, key)


def altered(signed: Signed, **fields: Any) -> bytes:
    return (json.dumps(json.loads(signed.data) | fields, indent=2, sort_keys=True) + "\n").encode()


def test_nothing_can_be_said_beside_what_is_signed(signed: Signed) -> None:
    key = parse_public_key(signed.public.read_bytes())
    [signature] = json.loads(signed.data)["signatures"]
    for forged in (
        altered(signed, note="trust me"),
        altered(signed, signatures=[signature | {"note": "trust me"}]),
        altered(signed, signatures=[signature, signature]),
        altered(signed, signatures=[]),
        altered(signed, payload=base64.b64encode(b"{}").decode()),
        altered(signed, payload=None),
        altered(signed, signatures=[signature | {"sig": ""}]),
        b"[]",
        b"null",
    ):
        with pytest.raises(NotGenuine):
            verify_receipt(forged, key)


def test_another_deployments_signature_is_not_taken_even_under_this_ones_name(
    signed: Signed, tmp_path: Path
) -> None:
    key, other = parse_public_key(signed.public.read_bytes()), load_signing_key(tmp_path / "other")
    foreign = encode_receipt(other.sign(statement().to_payload(), PAYLOAD_TYPE))
    with pytest.raises(NotGenuine, match=f"signed by {other.keyid[:16]}, not by the key {key.keyid[:16]}"):
        verify_receipt(foreign, key)
    with pytest.raises(NotGenuine, match="does not match"):
        verify_receipt(foreign.replace(other.keyid.encode(), key.keyid.encode()), key)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"{}", "_type|subject"),
        (b"no json", "Expecting value"),
        (statement().to_payload().replace(b"Statement/v1", b"Statement/v2"), "_type"),
        (statement().to_payload().replace(b"forget-receipt:v2", b"forget-receipt:v9"), "predicateType"),
        (statement().to_payload().replace(b'"job"', b'"jib"'), "predicate/"),
    ],
)
def test_what_is_signed_but_no_receipt_is_refused(signed: Signed, payload: bytes, reason: str) -> None:
    key = parse_public_key(signed.public.read_bytes())
    with pytest.raises(NotGenuine, match=reason):
        verify_receipt(encode_receipt(signed.key.sign(payload, PAYLOAD_TYPE)), key)
    with pytest.raises(NotGenuine, match="text/plain"):
        verify_receipt(encode_receipt(signed.key.sign(statement().to_payload(), "text/plain")), key)


def test_files_are_found_by_name_or_in_an_artifact_folder_and_the_missing_are_named(
    signed: Signed, tmp_path: Path
) -> None:
    key = parse_public_key(signed.public.read_bytes())
    (signed.files / "manifest.json").unlink()
    verified = verify_receipt(signed.data, key, signed.files)
    assert (len(verified.matching), verified.missing) == (2, ("manifest.json",))
    artifacts = FolderArtifacts(tmp_path / "artifacts")
    sha256 = artifacts.put(FILES["decoder.onnx"])
    assert verify_receipt(signed.data, key, artifacts.folder).matching == ("decoder.onnx",)
    artifacts.path(sha256).write_bytes(b"other")
    with pytest.raises(NotGenuine, match=sha256):
        verify_receipt(signed.data, key, artifacts.folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CannotVerify, match="holds none of the files"):
        verify_receipt(signed.data, key, tmp_path / "empty")


def test_equal_statements_are_equal_bytes() -> None:
    assert statement().to_payload() == statement().to_payload()
    read = read_statement(statement().to_payload())
    assert read == statement()
    assert read.predicate.seed_used == 2**62 + 1
    assert hashlib.sha256(read.to_payload()).digest() == hashlib.sha256(statement().to_payload()).digest()


def test_a_service_that_answers_without_a_key_is_named_in_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CannotVerify, match="did not answer with its signing key"):
        fetch_keys("http://127.0.0.1:1")
    monkeypatch.setattr(
        httpx2, "get", lambda url, timeout: httpx2.Response(200, json=[], request=httpx2.Request("GET", url))
    )
    with pytest.raises(CannotVerify, match="did not answer with its signing key"):
        fetch_keys("http://palimpsest.test")


def test_the_keys_of_all_pages_of_a_service_are_read(signed: Signed, monkeypatch: pytest.MonkeyPatch) -> None:
    pem = signed.public.read_text()
    seen = []

    def answer(url: str, timeout: float) -> httpx2.Response:
        seen.append(url)
        headers = {} if "after" in url else {"Link": '</v1/signing-keys?after=x>; rel="next"'}
        page = {"data": [{"public_key": pem}]}
        return httpx2.Response(200, json=page, headers=headers, request=httpx2.Request("GET", url))

    monkeypatch.setattr(httpx2, "get", answer)
    assert len(fetch_keys("http://palimpsest.test/")) == 2
    assert seen == [f"http://palimpsest.test/v1/signing-keys{query}" for query in ("", "?after=x")]


def of_release_0_1_0() -> bytes:
    """The payload of the same statement as release 0.1.0 wrote it."""
    document = json.loads(statement().to_payload())
    document["predicateType"] = "urn:palimpsest:forget-receipt:v1"
    figure = {"accuracy": 0.97, "n": 1000, "interval": [0.96, 0.98], "rejected": 0.01}
    label = figure | {"closed_accuracy": 0.98, "coverage": None, "threshold": "<= 0.05", "verdict": "missed"}
    criterion = {"criterion": "forgotten_accuracy_max", "label": "3", "bound": 0.05, "value": 0.97, "n": 1000}
    criterion |= {"interval": [0.96, 0.98], "threshold": "<= 0.05", "verdict": "missed"}
    document["predicate"]["figures"] = {
        "level": "quick",
        "judge": {"mnist": {"version": "a" * 64, "test_accuracy": 0.99, "missed": []}},
        "retained": figure,
        "forgotten": {**figure, "labels": {"3": label}},
        "criteria": [criterion],
    }
    purge = {"reason": "asked", "keys_gone": [], "keys_kept": [], "finished_at": "2026-01-02T03:04:05Z"}
    document["predicate"]["purge"] = purge
    return json.dumps(document, sort_keys=True, ensure_ascii=False).encode()


def test_a_receipt_of_release_0_1_0_is_verified_and_read_in_todays_types(signed: Signed) -> None:
    key = parse_public_key(signed.public.read_bytes())
    receipt = encode_receipt(signed.key.sign(of_release_0_1_0(), PAYLOAD_TYPE))
    predicate = verify_receipt(receipt, key).forget
    assert predicate.figures.retained.value == 0.97
    assert predicate.figures.forgotten.labels["3"].threshold == at_most(0.05)
    [criterion] = predicate.figures.criteria
    assert (criterion.value, criterion.threshold, criterion.verdict) == (0.97, at_most(0.05), "missed")
    assert predicate.purge is not None
    assert predicate.purge.reason == "requested"
    signed.file.write_bytes(receipt)
    ended = verify(signed, "--key", signed.public)
    assert ended.returncode == 0, ended.stderr
    assert "97.00% of 1000 drawn images recognised as their label" in ended.stdout
    assert "0 of 1 met" in ended.stdout


def test_the_signed_bytes_do_not_depend_on_the_names_of_attributes() -> None:
    predicate = json.loads(statement().to_payload())["predicate"]
    assert {"says", "asked", "stores"} <= predicate.keys()
    assert not {"meaning", "request", "erasure"} & predicate.keys()
    assert predicate["older_versions"][0].keys() == {"version", "lists", "state", "files"}
