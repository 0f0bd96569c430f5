"""What `palimpsest verify` does. A plain installation is enough for it: no service, database or PyTorch."""

from pathlib import Path

from rich.console import Console
from securesystemslib.signer import SSlibKey

from commands.failure import fail
from service.receipts import printing, verification
from service.receipts.signing import PUBLIC, parse_public_key, read_retired
from service.registry.errors import SigningKeyUnusable
from service.settings import Home


def verify(receipt: Path, *, key: Path | None, url: str | None, files: Path | None) -> None:
    """Print what the receipt says if it is genuine; else exit with 1 and one line that says what is wrong."""
    try:
        data = verification.read_receipt(receipt)
        trusted = _trusted_keys(key, url)
        verified = verification.verify_receipt(data, verification.choose_key(data, trusted), files)
    except verification.CannotVerify as error:
        fail(f"{receipt} is not verified: {error}")
    except verification.NotGenuine as error:
        fail(f"{receipt} is NOT genuine: {error}")
    console = Console(highlight=False, markup=False, emoji=False)
    printing.print_receipt(console, str(receipt), verified)


def _trusted_keys(file: Path | None, url: str | None) -> list[SSlibKey]:
    if url:
        return verification.fetch_keys(url)
    if file:
        return verification.read_keys(file)
    folder = Home().keys
    if not (folder / PUBLIC).exists():
        raise verification.CannotVerify("no public key is here; name one with --key FILE or --url URL")
    current = verification.read_key(folder / PUBLIC)
    try:
        retired = read_retired(folder, but=current.keyid)
    except SigningKeyUnusable as error:
        raise verification.CannotVerify(str(error)) from error
    return [current, *(parse_public_key(one.public_pem.encode()) for one in retired)]
