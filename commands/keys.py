"""`palimpsest keys`: the API keys of a deployment, and the key that signs its receipts.

The commands work on the database itself, because the first key is created before any key can be sent.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import get_args

import typer
from sqlalchemy.orm import Session

from commands.deployment import loaded_deployment
from commands.failure import fail
from migrations import upgrade
from service.receipts import signing, signing_keys
from service.registry import audit, keys, projects
from service.registry.database import Database
from service.registry.keys import Scope
from service.registry.tables import ApiKeyRow
from service.requests.fields import NAME, NAME_RULE


def create(name: str, scopes: Sequence[str], *, project: str, deployment: bool, days: float | None) -> None:
    """Create a key and print it; nobody can read it again."""
    chosen = [scope for scope in get_args(Scope) if scope in scopes]
    if not scopes or len(chosen) != len(set(scopes)):
        fail(f"name at least one --scope, each one of: {', '.join(get_args(Scope))}")
    if not NAME.fullmatch(name):
        fail(f"the name of a key {NAME_RULE}")
    with _transaction() as session:
        project_id = None if deployment else projects.find(session, project).id
        seconds = None if days is None else days * 24 * 3600
        row, text = keys.create(session, name=name, scopes=chosen, project=project_id, expires_in=seconds)
        _append_to_audit_log(session, "key.create", row.id, project_id)
        described = f"{row.id}: {_describe_scope(row)}"
    typer.echo(text)
    typer.echo(f"{described}. This is the only time that the key is shown.", err=True)


def list_all() -> None:
    """Print a line for each key, newest first."""
    with _transaction() as session:
        after: str | None = None
        while True:
            rows, has_more = keys.page(session, project=None, limit=100, after=after)
            for row in rows:
                used = "never used" if row.last_used_at is None else f"last used {row.last_used_at:%Y-%m-%d}"
                state = "revoked" if row.revoked_at else f"expires {row.expires_at or 'never'}"
                typer.echo(f"{row.id}  {row.name}  {_describe_scope(row)}  {state}  {used}")
            if not has_more:
                return
            after = rows[-1].id


def revoke(key: str) -> None:
    """Revoke a key, by its id or by its text."""
    found = keys.PATTERN.fullmatch(key)
    key_id = f"key_{found[1]}" if found else key
    with _transaction() as session:
        row = keys.revoke(session, key_id, project=None)
        _append_to_audit_log(session, "key.revoke", row.id, row.project_id)
    typer.echo(f"{key_id} is revoked; a running service accepts it for 5 more seconds at most")


def rotate_signing(*, without_old: bool) -> None:
    """Make a new key that signs receipts; the public half of the old one stays published."""
    with loaded_deployment() as deployment:
        if not without_old and not (deployment.keys / signing.PRIVATE).exists():
            fail(
                f"there is no {signing.PRIVATE} in {deployment.keys}: restore the folder from a backup; or, "
                "if the key is lost, make a new one with --without-old"
            )
        old = None if without_old else signing.load_signing_key(deployment.keys)
        new = signing.replace_lost(deployment.keys) if old is None else signing.rotate(deployment.keys)[1]
        with _transaction() as session:
            _append_to_audit_log(session, "signing_key.rotate", new.keyid[:32], None)
        database = Database(deployment.database_url)
        signing_keys.publish(database, deployment.keys)
        database.dispose()
    older = "the lost key verify only with its public half" if old is None else f"{old.keyid} still verify"
    typer.echo(f"receipts are signed with {new.keyid} from now on; those of {older}")


def _describe_scope(row: ApiKeyRow) -> str:
    where = "the whole deployment" if row.project is None else f"project {row.project.name}"
    return f"{','.join(row.scopes)} in {where}"


def _append_to_audit_log(session: Session, action: str, resource: str, project_id: str | None) -> None:
    audit.append(session, action, resource, actor=audit.SERVICE, project_id=project_id)


@contextmanager
def _transaction() -> Iterator[Session]:
    """A transaction on the migrated database. A known error prints one line and exits with 1."""
    with loaded_deployment() as deployment:
        deployment.home.mkdir(parents=True, exist_ok=True)
        database = Database(deployment.database_url)
        upgrade(database)
        with database.transaction() as session:
            yield session
        database.dispose()
