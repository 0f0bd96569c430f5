"""What `palimpsest verify` does. A plain installation is enough for it: no service, database or PyTorch."""

from pathlib import Path

from rich.console import Console

from commands.failure import fail
from service.receipts import printing, verification
from service.receipts.signing import PUBLIC
from service.settings import Home


def verify(receipt: Path, *, key: Path | None, url: str | None, files: Path | None) -> None:
    """Print what the receipt says if it is genuine; else exit with 1 and one line that says what is wrong."""
    try:
        trusted = verification.fetch_key(url) if url else verification.read_key(key or _key_of_this_machine())
        verified = verification.verify_receipt(verification.read_receipt(receipt), trusted, files)
    except verification.CannotVerify as error:
        fail(f"{receipt} is not verified: {error}")
    except verification.NotGenuine as error:
        fail(f"{receipt} is NOT genuine: {error}")
    console = Console(highlight=False, markup=False, emoji=False)
    printing.print_receipt(console, str(receipt), verified)


def _key_of_this_machine() -> Path:
    key = Home().keys / PUBLIC
    if not key.exists():
        raise verification.CannotVerify("no public key is here; name one with --key FILE or --url URL")
    return key
