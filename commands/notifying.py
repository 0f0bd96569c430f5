"""`palimpsest webhooks`: addresses that are told what happens in a project.

The API wants a key with the scope admin.
"""

from itertools import islice
from typing import Annotated

import typer

from commands.application import group
from commands.options import Limit, Yes
from commands.session import Session, command

Webhook = Annotated[str, typer.Argument(help="The id of the webhook.")]

webhooks = group(
    "webhooks",
    "List, create, try and delete webhooks.\n\nExample: palimpsest webhooks list",
)


@command(webhooks, "list")
def list_webhooks(session: Session) -> None:
    """List the webhooks of the project.

    Example: palimpsest webhooks list
    """
    from commands import tables

    session.show_list(session.client.webhooks.list(), as_table=tables.webhooks)


@command(webhooks, "show")
def show_webhook(session: Session, webhook: Webhook) -> None:
    """Show a webhook.

    Example: palimpsest webhooks show whk_01J0000000000000000000000
    """
    from commands import tables

    session.show(session.client.webhooks.get(webhook), as_text=tables.webhook)


@command(webhooks, "create")
def create_webhook(
    session: Session,
    address: Annotated[str, typer.Argument(help="The https URL to which messages are sent.")],
    types: Annotated[
        list[str],
        typer.Option(
            "--type",
            help="What it is told: job.finished, version.published, label.forgotten or label.relapsed. "
            "Repeat it for several.",
        ),
    ],
) -> None:
    """Create a webhook and print its secret, once.

    The secret signs the messages: give it to whoever receives them.

    Example: palimpsest webhooks create https://example.org/hook --type job.finished
    """
    created = session.client.webhooks.create(address, types)
    if session.as_json:
        session.show(created, as_text=str)
        return
    typer.echo(created.secret)
    session.messages.print(f"{created.id}. This is the only time that the secret is shown.", soft_wrap=True)
    session.advise(f"Try it: palimpsest webhooks test {created.id}")


@command(webhooks, "test")
def try_webhook(session: Session, webhook: Webhook) -> None:
    """Have a message sent that only tries a webhook.

    Example: palimpsest webhooks test whk_01J0000000000000000000000
    """
    from commands import tables

    session.show(session.client.webhooks.test(webhook), as_text=tables.delivery)
    session.advise(f"What became of it: palimpsest webhooks deliveries {webhook}")


@command(webhooks, "deliveries")
def list_deliveries(session: Session, webhook: Webhook, limit: Limit = 20) -> None:
    """List the messages of a webhook, and what became of them.

    Example: palimpsest webhooks deliveries whk_01J0000000000000000000000
    """
    from commands import tables

    session.show_list(islice(session.client.webhooks.deliveries(webhook), limit), as_table=tables.deliveries)


@command(webhooks, "delete")
def delete_webhook(session: Session, webhook: Webhook, yes: Yes = False) -> None:
    """Delete a webhook.

    Example: palimpsest webhooks delete whk_01J0000000000000000000000 --yes
    """
    session.confirm(
        f"Delete the webhook {webhook} for ever?",
        lambda: [
            f"{session.client.webhooks.get(webhook).url} is told nothing any more.",
            "Messages that wait to be sent again are dropped, and the list of its messages is deleted.",
        ],
        yes=yes,
    )
    session.client.webhooks.delete(webhook)
    session.messages.print(f"deleted {webhook}", soft_wrap=True)
