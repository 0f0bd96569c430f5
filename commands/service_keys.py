"""`palimpsest keys` with `--url`: the API keys of a service, through its API."""

from collections.abc import Sequence

import typer

from commands import tables
from commands.session import Session


def create(
    session: Session, name: str, scopes: Sequence[str], *, project: str, deployment: bool, days: float | None
) -> None:
    """Create a key and print it, once."""
    seconds = None if days is None else int(days * 24 * 3600)
    key = session.client.keys.create(
        name, scopes, project=None if deployment else project, deployment=deployment, expires_in=seconds
    )
    if session.as_json:
        session.show(key, as_text=str)
        return
    typer.echo(key.key)
    session.messages.print(f"{key.id}. This is the only time that the key is shown.", soft_wrap=True)


def list_all(session: Session) -> None:
    """List the keys, newest first."""
    session.show_list(session.client.keys.list(), as_table=tables.keys)


def revoke(session: Session, key: str) -> None:
    """Revoke a key, by its id or by its text."""
    text = key.split("_", 2)
    key_id = f"key_{text[1]}" if text[0] == "pal" and len(text) == 3 else key
    session.client.keys.revoke(key_id)
    session.messages.print(f"{key_id} is revoked", soft_wrap=True)
