"""The deployment's signing key: an Ed25519 key, stored in PALIMPSEST_HOME/keys.

Several processes share that folder. If two make a key at the same moment, both use the one that was stored
first. When one may be made, signing_keys.py decides. `rotate` puts another in its place: the next receipt is
signed with it, in every process, and the public half of the old one stays in the list of retired keys.
"""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner, SSlibKey

from service import durable
from service.registry.errors import SigningKeyUnusable

ALGORITHM = "ed25519"
PRIVATE, PUBLIC = "signing.pem", "signing.pub.pem"
RETIRED = "retired-signing-keys.json"
"""The public halves of earlier keys, with the times between which they signed receipts."""
ONLY_OWNER = 0o600


class NotAPublicKey(ValueError):
    """The bytes are not an Ed25519 public key in PEM."""


@dataclass(frozen=True)
class SigningKey:
    """The private key. Neither its `repr` nor any error shows it."""

    signer: CryptoSigner

    def __repr__(self) -> str:
        return f"SigningKey({self.keyid})"

    @property
    def keyid(self) -> str:
        """The sha256 of the public key, as securesystemslib computes it. Signatures carry it."""
        return self.signer.public_key.keyid

    @property
    def public_pem(self) -> str:
        """The public key in PEM."""
        return as_pem(self.signer.public_key)

    def sign(self, payload: bytes, payload_type: str) -> Envelope:
        """Sign the payload in a DSSE envelope. With Ed25519 the same payload gives the same signature."""
        envelope = Envelope(payload, payload_type, {})
        envelope.sign(self.signer)
        return envelope


@dataclass(frozen=True)
class PublishedKey:
    """The public half of a key that signs receipts, or did. The times are None if they are not known."""

    keyid: str
    public_pem: str
    created_at: datetime | None
    retired_at: datetime | None = None


def load_signing_key(folder: Path) -> SigningKey:
    """Load the key in the folder; make one if there is none yet. Raises SigningKeyUnusable."""
    private = folder / PRIVATE
    try:
        if not private.exists():
            durable.create(private, CryptoSigner.generate_ed25519().private_bytes, mode=ONLY_OWNER)
        found = private.stat()
    except OSError as error:
        raise SigningKeyUnusable(f"{PRIVATE} cannot be read or made ({error.strerror})") from error
    return _load(folder, (found.st_ino, found.st_mtime_ns))


def replace_lost(folder: Path) -> SigningKey:
    """Make a key in place of one that was lost; keep its public half, if that is there, as a retired one.

    Raises SigningKeyUnusable, also if the key is not lost.
    """
    if (folder / PRIVATE).exists():
        raise SigningKeyUnusable(f"{PRIVATE} is there; replace it without --without-old")
    try:
        if (folder / PUBLIC).exists():
            lost = parse_public_key((folder / PUBLIC).read_bytes())
            created_at = _modified_at(folder / PUBLIC)
            _retire(folder, PublishedKey(lost.keyid, as_pem(lost), created_at, datetime.now(UTC)))
    except NotAPublicKey as error:
        raise SigningKeyUnusable(f"{PUBLIC}: {error}; move it away") from error
    except OSError as error:
        raise SigningKeyUnusable(f"the old key cannot be recorded ({error.strerror})") from error
    return load_signing_key(folder)


def rotate(folder: Path) -> tuple[SigningKey, SigningKey]:
    """Put a new key in the place of the current one. Returns the old one and the new one.

    The old public half is recorded first: a crash in between leaves the old key in use, and every receipt has
    a published key. Raises SigningKeyUnusable.
    """
    old = load_signing_key(folder)
    try:
        created_at = _modified_at(folder / PRIVATE)
        _retire(folder, PublishedKey(old.keyid, old.public_pem, created_at, datetime.now(UTC)))
        new = CryptoSigner.generate_ed25519()
        durable.write(folder / PRIVATE, new.private_bytes, mode=ONLY_OWNER)
    except OSError as error:
        raise SigningKeyUnusable(f"the new key cannot be stored ({error.strerror})") from error
    return old, load_signing_key(folder)


def list_public_keys(folder: Path) -> list[PublishedKey]:
    """List the public halves of all keys that sign or signed receipts, the current one first.

    It makes no key. Raises SigningKeyUnusable.
    """
    if not (folder / PRIVATE).exists():
        raise SigningKeyUnusable(f"there is no {PRIVATE}; the start of the service makes the first one")
    current = load_signing_key(folder)
    try:
        created_at = _modified_at(folder / PRIVATE)
    except OSError:
        created_at = None
    retired = read_retired(folder, but=current.keyid)
    return [PublishedKey(current.keyid, current.public_pem, created_at), *reversed(retired)]


@lru_cache(maxsize=8)
def _load(folder: Path, _file: tuple[int, int]) -> SigningKey:
    """Load the key. _file: the identity of the file, so that a new one is not taken for it."""
    private = folder / PRIVATE
    try:
        key = load_pem_private_key(private.read_bytes(), password=None)
    except OSError as error:
        raise SigningKeyUnusable(f"{PRIVATE} cannot be read or made ({error.strerror})") from error
    except (ValueError, TypeError):
        raise SigningKeyUnusable(f"{PRIVATE} is not a private key in PEM; restore it from a backup") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise SigningKeyUnusable(f"{PRIVATE} is not an Ed25519 key; restore it from a backup")
    loaded = SigningKey(CryptoSigner(key))
    _store_public_key(folder / PUBLIC, loaded.public_pem.encode())
    return loaded


def read_retired(folder: Path, *, but: str) -> list[PublishedKey]:
    """Read the retired keys, the oldest first, without the one of the id `but`."""
    try:
        entries = json.loads((folder / RETIRED).read_bytes())
        found = [
            PublishedKey(
                keyid=str(entry["keyid"]),
                public_pem=str(entry["public_pem"]),
                created_at=datetime.fromisoformat(entry["created_at"]),
                retired_at=datetime.fromisoformat(entry["retired_at"]),
            )
            for entry in entries
        ]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SigningKeyUnusable(
            f"{RETIRED} cannot be read ({type(error).__name__}); restore it from a backup"
        ) from error
    return [one for one in found if one.keyid != but]


def _retire(folder: Path, key: PublishedKey) -> None:
    entries = [asdict(one) for one in (*read_retired(folder, but=key.keyid), key)]
    durable.write(folder / RETIRED, json.dumps(entries, default=str, indent=1).encode())


def _modified_at(file: Path) -> datetime:
    return datetime.fromtimestamp(file.stat().st_mtime, UTC)


def parse_public_key(pem: bytes) -> SSlibKey:
    """Parse an Ed25519 public key in PEM. Raises NotAPublicKey."""
    try:
        key = load_pem_public_key(pem)
    except ValueError as error:
        raise NotAPublicKey("this is not a public key in PEM") from error
    if not isinstance(key, Ed25519PublicKey):
        raise NotAPublicKey("this key is of another kind than Ed25519")
    return SSlibKey.from_crypto(key)


def as_pem(key: SSlibKey) -> str:
    """Encode a public key in PEM, which other tools read."""
    raw = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key.keyval["public"]))
    return raw.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def _store_public_key(public: Path, pem: bytes) -> None:
    """Store the public key for `palimpsest verify` on this machine; do nothing if the folder is read-only."""
    try:
        if not public.exists() or public.read_bytes() != pem:
            durable.write(public, pem)
    except OSError:
        return
