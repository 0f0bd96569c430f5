"""The deployment's signing key: Ed25519, made once, kept in PALIMPSEST_HOME/keys, told to nobody.

Several processes share that folder. The first that needs the key makes it; whoever comes at the same moment
uses the one that was there first.
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
    """The bytes are no Ed25519 public key in PEM."""


@dataclass(frozen=True)
class SigningKey:
    """The private key, for this process; its `repr` and every error keep it to themselves."""

    signer: CryptoSigner

    def __repr__(self) -> str:
        return f"SigningKey({self.keyid})"

    @property
    def keyid(self) -> str:
        """The sha256 of the public key, as securesystemslib writes it: what a signature names its key by."""
        return self.signer.public_key.keyid

    @property
    def public_pem(self) -> str:
        return pem_of(self.signer.public_key)

    def sign(self, payload: bytes, payload_type: str) -> Envelope:
        """The payload in a DSSE envelope. Ed25519: the same payload gives the same signature."""
        envelope = Envelope(payload, payload_type, {})
        envelope.sign(self.signer)
        return envelope


@lru_cache(maxsize=8)
def signing_key(folder: Path) -> SigningKey:
    """The key of that folder, made if there is none yet. Raises SigningKeyUnusable."""
    private = folder / PRIVATE
    try:
        if not private.exists():
            durable.create(private, CryptoSigner.generate_ed25519().private_bytes, mode=ONLY_OWNER)
        key = load_pem_private_key(private.read_bytes(), password=None)
    except OSError as error:
        raise SigningKeyUnusable(f"{PRIVATE} cannot be read or made ({error.strerror})") from error
    except (ValueError, TypeError):
        raise SigningKeyUnusable(f"{PRIVATE} is no private key in PEM; restore it from a backup") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise SigningKeyUnusable(f"{PRIVATE} is not an Ed25519 key; restore it from a backup")
    made = SigningKey(CryptoSigner(key))
    _lay_out(folder / PUBLIC, made.public_pem.encode())
    return made


def public_key(pem: bytes) -> SSlibKey:
    """The key to check signatures with. Raises NotAPublicKey."""
    try:
        key = load_pem_public_key(pem)
    except ValueError as error:
        raise NotAPublicKey("it holds no public key in PEM") from error
    if not isinstance(key, Ed25519PublicKey):
        raise NotAPublicKey("it holds a key of another kind than Ed25519")
    return SSlibKey.from_crypto(key)


def pem_of(key: SSlibKey) -> str:
    """A public key as other tools read it."""
    raw = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key.keyval["public"]))
    return raw.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def _lay_out(public: Path, pem: bytes) -> None:
    """The public key beside it, for `palimpsest verify` on this machine; a read-only folder lacks it."""
    try:
        if not public.exists() or public.read_bytes() != pem:
            durable.write(public, pem)
    except OSError:
        return
