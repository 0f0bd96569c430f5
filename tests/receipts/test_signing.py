"""A deployment has one signing key, whoever needs it first, and tells it to nobody."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import run
from sys import executable

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from service import durable
from service.receipts.signing import (
    NotAPublicKey,
    SigningKey,
    list_public_keys,
    load_signing_key,
    parse_public_key,
    rotate,
)
from service.receipts.statement import PAYLOAD_TYPE, encode_receipt
from service.receipts.verification import choose_key, verify_receipt
from service.registry.errors import SigningKeyUnusable
from tests.receipts.conftest import statement

MAKE = (
    "import sys; from pathlib import Path; from service.receipts.signing import load_signing_key; "
    "print(load_signing_key(Path(sys.argv[1])).keyid)"
)


def test_starters_at_the_same_moment_make_one_key(tmp_path: Path) -> None:
    command = [executable, "-c", MAKE, str(tmp_path / "keys")]
    with ThreadPoolExecutor() as pool:
        ended = list(pool.map(lambda _: run(command, capture_output=True, text=True), range(3)))
    assert [one.returncode for one in ended] == [0, 0, 0], ended
    assert len({one.stdout for one in ended}) == 1
    assert sorted(path.name for path in (tmp_path / "keys").iterdir()) == ["signing.pem", "signing.pub.pem"]


def test_the_loser_of_the_race_uses_the_key_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looked before the other had named its key."""
    first = load_signing_key(tmp_path)
    looked = iter([False])
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: next(looked, None) is None and exists(path))
    assert load_signing_key(tmp_path).keyid == first.keyid


def test_the_private_key_is_readable_by_its_owner_alone_and_shown_by_nothing(tmp_path: Path) -> None:
    key = load_signing_key(tmp_path / "keys")
    private = tmp_path / "keys" / "signing.pem"
    assert private.stat().st_mode & 0o777 == 0o600
    secret = private.read_text().splitlines()[1]
    assert secret not in f"{key!r} {key} {key.public_pem}"
    assert (tmp_path / "keys" / "signing.pub.pem").read_text() == key.public_pem


@pytest.mark.parametrize(
    "damage", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_a_damaged_key_is_refused_and_not_replaced(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "signing.pem").write_bytes(damage)
    with pytest.raises(SigningKeyUnusable, match="restore it from a backup"):
        load_signing_key(tmp_path)
    assert (tmp_path / "signing.pem").read_bytes() == damage


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    other = generate_private_key(SECP256R1())
    (tmp_path / "signing.pem").write_bytes(
        other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    with pytest.raises(SigningKeyUnusable, match="not an Ed25519 key"):
        load_signing_key(tmp_path)
    with pytest.raises(NotAPublicKey, match="another kind"):
        parse_public_key(other.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def test_the_same_payload_is_signed_alike(tmp_path: Path) -> None:
    def signature(key: SigningKey) -> object:
        return key.sign(b"{}", "some/type").to_dict()

    key = load_signing_key(tmp_path)
    assert signature(key) == signature(key)


def test_a_receipt_that_a_retired_key_signed_still_verifies(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    receipts = []
    for _ in range(3):
        signed_by = load_signing_key(folder)
        data = encode_receipt(signed_by.sign(statement().to_payload(), PAYLOAD_TYPE))
        receipts.append((signed_by.keyid, data))
        old, new = rotate(folder)
        assert old.keyid == signed_by.keyid != new.keyid == load_signing_key(folder).keyid
    published = list_public_keys(folder)
    assert [one.keyid for one in published[1:]] == [keyid for keyid, _ in reversed(receipts)]
    assert published[0].retired_at is None
    assert all(
        one.created_at and one.retired_at and one.created_at <= one.retired_at for one in published[1:]
    )
    trusted = [parse_public_key(one.public_pem.encode()) for one in published]
    for keyid, data in receipts:
        assert verify_receipt(data, choose_key(data, trusted)).keyid == keyid
    assert (folder / "signing.pem").stat().st_mode & 0o777 == 0o600
    assert "PRIVATE" not in (folder / "retired-signing-keys.json").read_text()


def test_a_rotation_that_was_interrupted_leaves_the_old_key_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, write = load_signing_key(tmp_path), durable.write

    def full_disk(path: Path, data: bytes, **options: int) -> None:
        if path.name == "signing.pem":
            raise OSError(28, "No space left on device")
        write(path, data, **options)

    monkeypatch.setattr(durable, "write", full_disk)
    with pytest.raises(SigningKeyUnusable, match="No space left"):
        rotate(tmp_path)
    assert [one.keyid for one in list_public_keys(tmp_path)] == [first.keyid]
    monkeypatch.undo()
    _, second = rotate(tmp_path)
    assert [one.keyid for one in list_public_keys(tmp_path)] == [second.keyid, first.keyid]
