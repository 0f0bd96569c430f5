"""Whether a receipt is what a deployment signed, byte for byte, and whether files are those it speaks of.

Needs no service, no database and no learner: the receipt, a public key, and the files where they are at hand.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from pydantic import ValidationError
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey

from service.receipts.signing import NotAPublicKey, public_key
from service.receipts.statement import PAYLOAD_TYPE, Statement, receipt_bytes
from service.registry.artifacts import FolderArtifacts

KEY_PATH = "/v1/keys/signing"


class CannotCheck(Exception):
    """Something to check with is not there; the message is one line that says what."""


class NotGenuine(Exception):
    """The receipt or a file is not what it should be; the message is one line that says which."""


@dataclass(frozen=True)
class Checked:
    """A receipt that is genuine, and the files that were there to be compared with it."""

    statement: Statement
    keyid: str
    matching: tuple[str, ...]
    missing: tuple[str, ...]


def check(receipt: bytes, key: SSlibKey, files: Path | None = None) -> Checked:
    """The receipt's statement, if `key` signed it and no byte changed since. Raises NotGenuine, CannotCheck.

    files: a folder that holds the version's files by their names, or an artifact folder. Each that is there
    is compared; one at least has to be.
    """
    envelope = _envelope(receipt)
    _check_signature(envelope, key)
    statement = _statement(envelope)
    matching, missing = _compare(statement, files) if files else ((), ())
    return Checked(statement, key.keyid, matching, missing)


def key_in(file: Path) -> SSlibKey:
    """The public key in a PEM file. Raises CannotCheck."""
    return _key(_read(file), str(file))


def key_of(url: str) -> SSlibKey:
    """The public key that a running service tells. Raises CannotCheck."""
    try:
        answer = httpx.get(url.rstrip("/") + KEY_PATH, timeout=10).raise_for_status()
        return _key(answer.json()["public_key"].encode(), url)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CannotCheck(f"{url}: no signing key is told there ({type(error).__name__})") from error


def receipt_in(file: Path) -> bytes:
    """The bytes of a receipt file. Raises CannotCheck."""
    return _read(file)


def _key(pem: bytes, where: str) -> SSlibKey:
    try:
        return public_key(pem)
    except NotAPublicKey as error:
        raise CannotCheck(f"{where}: {error}") from error


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise CannotCheck(f"{file}: {error.strerror}") from error


def _envelope(receipt: bytes) -> Envelope:
    """The envelope, if these bytes are the one way to write it: the signature covers its payload alone."""
    try:
        document: Any = json.loads(receipt)
        envelope = Envelope.from_dict(document)
        written = receipt_bytes(envelope)
    except Exception as error:  # whatever a parser trips over: it is no receipt
        raise NotGenuine(f"this is no receipt: it cannot be read ({type(error).__name__})") from error
    if written != receipt:
        raise NotGenuine("the file was altered: it is not written as receipts are")
    return envelope


def _check_signature(envelope: Envelope, key: SSlibKey) -> None:
    if list(envelope.signatures) != [key.keyid]:
        signers = ", ".join(keyid[:16] for keyid in envelope.signatures) or "nobody"
        raise NotGenuine(f"it is signed by {signers}, not by the key {key.keyid[:16]}")
    try:
        envelope.verify([key], 1)
    except (VerificationError, ValueError) as error:
        raise NotGenuine("the signature does not fit: the receipt was altered") from error


def _statement(envelope: Envelope) -> Statement:
    if envelope.payload_type != PAYLOAD_TYPE:
        raise NotGenuine(f"what is signed is {envelope.payload_type}, not {PAYLOAD_TYPE}")
    try:
        return Statement.model_validate_json(envelope.payload)
    except ValidationError as error:
        first = error.errors()[0]
        place = "/".join(map(str, first["loc"])) or "the statement"
        raise NotGenuine(f"what is signed is no receipt of a forget: {place}: {first['msg']}") from error


def _compare(statement: Statement, folder: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    matching, missing = [], []
    for subject in statement.subject:
        name, sha256 = subject.name, subject.digest.sha256
        places = (folder / name, FolderArtifacts(folder).path(sha256))
        file = next((place for place in places if place.is_file()), None)
        if file is None:
            missing.append(name)
        elif hashlib.sha256(_read(file)).hexdigest() != sha256:
            raise NotGenuine(f"{file} is not the {name} of the receipt: its sha256 is another")
        else:
            matching.append(name)
    if not matching:
        raise CannotCheck(f"{folder} holds none of the files: {', '.join(missing)}")
    return tuple(matching), tuple(missing)
