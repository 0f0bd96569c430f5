"""`palimpsest describe` and `status`: what people note about models, and whether a service is ready."""

from typing import Annotated

import typer

from commands.failure import fail
from commands.options import Model, texts
from commands.session import Session, command


@command()
def describe(
    session: Session,
    model: Model,
    version: Annotated[
        str | None, typer.Option(help="Describe this version, and not the model: its number or an alias.")
    ] = None,
    description: Annotated[
        str | None, typer.Option(help="What it is, in your words; an empty text removes it.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="An entry of the metadata to set. Repeatable."),
    ] = None,
    unset: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY", help="An entry of the metadata to remove. Repeatable."),
    ] = None,
) -> None:
    """Describe a model or a version, or set its metadata.

    The other entries of the metadata stay.

    Example: palimpsest describe numbers --description "For the shop" --set team=vision
    """
    from commands import tables
    from palimpsest.requests import UNCHANGED

    metadata = {**(texts("--set", set_) or {}), **dict.fromkeys(unset or ())}
    if description is None and not metadata:
        fail("nothing to change: add --description, --set or --unset", 2)
    text = UNCHANGED if description is None else description or None
    entries = metadata or UNCHANGED
    if version is None:
        changed = session.client.models.update(model, description=text, metadata=entries)
        session.show(changed, as_text=tables.model)
    else:
        described = session.client.versions.update(model, version, description=text, metadata=entries)
        session.show(described, as_text=tables.version)


@command()
def status(session: Session) -> None:
    """Show whether a service is ready, check by check.

    It ends with 0 while requests are served, be it with faults (`degraded`), and with 1 otherwise.

    Example: palimpsest status --url http://127.0.0.1:8000
    """
    from commands import tables

    session.show(session.client.service.ready(), as_text=tables.readiness)
