"""The deployment's signing key: an Ed25519 key, made once and stored in PALIMPSEST_HOME/keys.

Several processes share that folder. The first one that needs the key makes it. If two make one at the same
moment, both use the one that was stored first.
"""

from dataclasses import dataclass
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


@lru_cache(maxsize=8)
def load_signing_key(folder: Path) -> SigningKey:
    """Load the key in the folder; make one if there is none yet. Raises SigningKeyUnusable."""
    private = folder / PRIVATE
    try:
        if not private.exists():
            durable.create(private, CryptoSigner.generate_ed25519().private_bytes, mode=ONLY_OWNER)
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
