"""Verify that a receipt is byte for byte what a deployment signed, and that files match their sha256 in it.

Verification needs the receipt, a public key and, if files are compared, the files. It needs no running
service, no database and no PyTorch.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from pydantic import ValidationError
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey

from service.receipts.deletion_statement import PREDICATE_TYPE, DeletionStatement
from service.receipts.signing import NotAPublicKey, parse_public_key
from service.receipts.statement import PAYLOAD_TYPE, Predicate, Statement, encode_receipt, read_statement
from service.registry.artifacts import FolderArtifacts

KEYS_PATH, OLDER_PATH = "/v1/signing-keys", "/v1/keys/signing"
"""Where a service publishes its keys, and where a service of release 0.1.0 publishes its only one."""


class CannotVerify(Exception):
    """The key, the receipt or all files cannot be read; the message is one line that says which and why."""


class NotGenuine(Exception):
    """The receipt or a file was altered, or another key signed it; the message says which in one line."""


@dataclass(frozen=True)
class VerifiedReceipt:
    """A genuine receipt, and the names of its files that matched and of those that were missing."""

    statement: Statement | DeletionStatement
    keyid: str
    matching: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def forget(self) -> Predicate:
        """What the receipt of a forget states. Raises NotGenuine for the receipt of a deleted model."""
        if isinstance(self.statement, DeletionStatement):
            raise NotGenuine("it is the receipt of a deleted model, not of a forget")
        return self.statement.predicate


def verify_receipt(receipt: bytes, key: SSlibKey, files: Path | None = None) -> VerifiedReceipt:
    """Return the receipt's statement if `key` signed it and no byte has changed since.

    files: a folder that holds the version's files by their names, or an artifact folder. Each file that is
    there is compared; at least one has to be. Raises NotGenuine, CannotVerify.
    """
    envelope = _envelope(receipt)
    _check_signature(envelope, key)
    statement = _statement(envelope)
    matching, missing = _compare(statement, files) if files else ((), ())
    return VerifiedReceipt(statement, key.keyid, matching, missing)


def choose_key(receipt: bytes, trusted: Sequence[SSlibKey]) -> SSlibKey:
    """Return the trusted key that the receipt says signed it; the first one if it names none of them."""
    try:
        named = [str(signature["keyid"]) for signature in json.loads(receipt)["signatures"]]
    except (ValueError, KeyError, TypeError):
        named = []
    return next((key for key in trusted if key.keyid in named), trusted[0])


def read_key(file: Path) -> SSlibKey:
    """Read the public key in a PEM file. Raises CannotVerify."""
    return _key(_read(file), str(file))


def read_keys(file: Path) -> list[SSlibKey]:
    """Read a PEM file, or the JSON that GET /v1/signing-keys answered with. Raises CannotVerify."""
    content = _read(file)
    if not content.lstrip().startswith(b"{"):
        return [_key(content, str(file))]
    try:
        return _published_keys(json.loads(content), str(file))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise CannotVerify(f"{file}: this is not a list of signing keys ({type(error).__name__})") from error


def fetch_keys(url: str) -> list[SSlibKey]:
    """Ask a running service for the public keys that sign or signed its receipts. Raises CannotVerify."""
    base = url.rstrip("/")
    keys: list[SSlibKey] = []
    path: str | None = KEYS_PATH
    try:
        while path is not None:
            response = httpx2.get(base + path, timeout=10)
            if response.status_code == 404:
                response = httpx2.get(base + OLDER_PATH, timeout=10)
            keys += _published_keys(response.raise_for_status().json(), url)
            path = response.links.get("next", {}).get("url")
        return keys
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CannotVerify(
            f"{url}: the service did not answer with its signing key ({type(error).__name__})"
        ) from error


def read_receipt(file: Path) -> bytes:
    """Read the bytes of a receipt file. Raises CannotVerify."""
    return _read(file)


def _published_keys(document: Any, where: str) -> list[SSlibKey]:
    entries = document.get("data", [document])
    keys = [_key(entry["public_key"].encode(), where) for entry in entries]
    return keys if keys else [_key(b"", where)]


def _key(pem: bytes, where: str) -> SSlibKey:
    try:
        return parse_public_key(pem)
    except NotAPublicKey as error:
        raise CannotVerify(f"{where}: {error}") from error


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise CannotVerify(f"{file}: {error.strerror}") from error


def _envelope(receipt: bytes) -> Envelope:
    """Parse the envelope, and check that encoding it again gives the same bytes.

    The signature covers only the payload, so this check covers the other bytes of the file.
    """
    try:
        document: Any = json.loads(receipt)
        envelope = Envelope.from_dict(document)
        written = encode_receipt(envelope)
    except Exception as error:  # any error of the parser means that this is not a receipt
        raise NotGenuine(
            f"the file is not a receipt: it cannot be parsed ({type(error).__name__})"
        ) from error
    if written != receipt:
        raise NotGenuine("the file was altered: it is not formatted as the service formats receipts")
    return envelope


def _check_signature(envelope: Envelope, key: SSlibKey) -> None:
    if list(envelope.signatures) != [key.keyid]:
        signers = ", ".join(keyid[:16] for keyid in envelope.signatures) or "nobody"
        raise NotGenuine(f"it is signed by {signers}, not by the key {key.keyid[:16]}")
    try:
        envelope.verify([key], 1)
    except (VerificationError, ValueError) as error:
        raise NotGenuine("the signature does not match: the receipt was altered") from error


def _statement(envelope: Envelope) -> Statement | DeletionStatement:
    if envelope.payload_type != PAYLOAD_TYPE:
        raise NotGenuine(f"the signed payload is of type {envelope.payload_type}, not {PAYLOAD_TYPE}")
    try:
        document = json.loads(envelope.payload)
        if isinstance(document, dict) and document.get("predicateType") == PREDICATE_TYPE:
            return DeletionStatement.model_validate(document)
        return read_statement(envelope.payload)
    except ValidationError as error:
        first = error.errors()[0]
        place = "/".join(map(str, first["loc"])) or "the statement"
        raise NotGenuine(
            f"the signed payload is not the receipt of a forget: {place}: {first['msg']}"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotGenuine(f"the signed payload is not the receipt of a forget: {error!r}") from error


def _compare(
    statement: Statement | DeletionStatement, folder: Path
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if isinstance(statement, DeletionStatement):
        raise CannotVerify("the files that the receipt of a deleted model names are deleted; leave them out")
    matching, missing = [], []
    for subject in statement.subject:
        name, sha256 = subject.name, subject.digest.sha256
        places = (folder / name, FolderArtifacts(folder).path(sha256))
        file = next((place for place in places if place.is_file()), None)
        if file is None:
            missing.append(name)
        elif hashlib.sha256(_read(file)).hexdigest() != sha256:
            raise NotGenuine(f"{file} is not the {name} that the receipt names: its sha256 differs")
        else:
            matching.append(name)
    if not matching:
        raise CannotVerify(f"{folder} holds none of the files that the receipt names: {', '.join(missing)}")
    return tuple(matching), tuple(missing)
