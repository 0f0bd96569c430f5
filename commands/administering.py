"""`palimpsest keys`, `projects` and `audit`: who may use a service, and what they did."""

from itertools import islice
from typing import Annotated

import typer

from commands.application import PEOPLE, app, group
from commands.failure import require_service
from commands.options import Limit, Yes
from commands.session import AsJson, Session, calling, command

Name = Annotated[str, typer.Argument(help="The name or id of the project.")]

ServiceUrl = Annotated[
    str | None, typer.Option("--url", help="Ask the service at this URL (default: use its database here).")
]

keys_app = typer.Typer(
    help="Create, list and revoke API keys.\n\nExample: palimpsest keys create ci --scope read",
    no_args_is_help=True,
)
app.add_typer(keys_app, name="keys", rich_help_panel=PEOPLE)


@keys_app.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(help="What it may do: read, sample, learn, forget or admin. Repeat it for several."),
    ] = None,
    project: Annotated[str, typer.Option(help="The project that it belongs to.")] = "default",
    deployment: Annotated[
        bool, typer.Option("--deployment", help="Let it use every project, and not only one.")
    ] = False,
    expires_days: Annotated[float | None, typer.Option(min=0, help="Days until it expires.")] = None,
    url: ServiceUrl = None,
    as_json: AsJson = False,
) -> None:
    """Create an API key and print it, once: it is stored nowhere.

    Without --url it works on the database directly, so that the first key can be created before any service
    runs.

    Example: palimpsest keys create operator --scope admin --deployment
    """
    if url is not None:
        from commands import service_keys

        with calling(url, as_json=as_json) as session:
            service_keys.create(
                session, name, scope or [], project=project, deployment=deployment, days=expires_days
            )
        return
    require_service("keys")
    from commands import keys

    keys.create(name, scope or [], project=project, deployment=deployment, days=expires_days)


@keys_app.command("list")
def list_keys(url: ServiceUrl = None, as_json: AsJson = False) -> None:
    """List the API keys.

    Example: palimpsest keys list --url http://127.0.0.1:8000
    """
    if url is not None:
        from commands import service_keys

        with calling(url, as_json=as_json) as session:
            service_keys.list_all(session)
        return
    require_service("keys")
    from commands import keys

    keys.list_all()


@keys_app.command("revoke")
def revoke_key(
    key: Annotated[str, typer.Argument(help="The id of the key, or the key itself.")], url: ServiceUrl = None
) -> None:
    """Revoke an API key for ever.

    The sessions opened with it end.

    Example: palimpsest keys revoke key_01J0000000000000000000000
    """
    if url is not None:
        from commands import service_keys

        with calling(url) as session:
            service_keys.revoke(session, key)
        return
    require_service("keys")
    from commands import keys

    keys.revoke(key)


@keys_app.command("rotate-signing")
def rotate_signing_key(
    without_old: Annotated[bool, typer.Option(help="Make one although the old key is lost.")] = False,
) -> None:
    """Make a new key that signs receipts.

    The public half of the old one stays published at /v1/signing-keys: receipts that it signed still verify.

    Example: palimpsest keys rotate-signing
    """
    require_service("keys")
    from commands import keys

    keys.rotate_signing(without_old=without_old)


projects = group(
    "projects",
    "List, create, show and delete projects.\n\nExample: palimpsest projects list",
)


@command(projects, "list")
def list_projects(session: Session) -> None:
    """List the projects that the API key may use.

    Example: palimpsest projects list
    """
    from commands import tables

    session.show_list(session.client.projects.list(), as_table=tables.projects)


@command(projects, "show")
def show_project(session: Session, name: Name) -> None:
    """Show a project.

    Example: palimpsest projects show research
    """
    from commands import tables

    session.show(session.client.projects.get(name), as_text=tables.project)


@command(projects, "create")
def create_project(session: Session, name: Annotated[str, typer.Argument(help="Its name.")]) -> None:
    """Create a project.

    It has models, datasets, samples and API keys of its own.

    Example: palimpsest projects create research
    """
    from commands import tables

    session.show(session.client.projects.create(name), as_text=tables.project)
    session.advise(f"Work in it: palimpsest models list --project {name}")


@command(projects, "delete")
def delete_project(session: Session, name: Name, yes: Yes = False) -> None:
    """Delete an empty project.

    Example: palimpsest projects delete research --yes
    """
    session.confirm(
        f"Delete the project {name} for ever?",
        lambda: [
            "Its revoked and expired API keys are deleted with it. The audit log stays.",
            "It is refused while the project has models, be they deleted, datasets, webhooks or valid keys.",
        ],
        yes=yes,
    )
    session.client.projects.delete(name)
    session.messages.print(f"deleted the project {name}", soft_wrap=True)


audit = group(
    "audit",
    "List and check the audit log of requests and outcomes.\n\nExample: palimpsest audit list",
)


@command(audit, "list")
def list_audit_log(
    session: Session,
    action: Annotated[str | None, typer.Option(help="Only those of this action, such as job.submit.")] = None,
    resource: Annotated[str | None, typer.Option(help="Only those about what has this id.")] = None,
    limit: Limit = 50,
) -> None:
    """List who requested what of a service, and what became of it.

    It needs a key with the scope admin.

    Example: palimpsest audit list --limit 100 --json
    """
    from commands import tables

    found = session.client.audit.list(action=action, resource=resource)
    session.show_list(islice(found, limit), as_table=tables.audit_entries)


@audit.command("verify")
def verify_audit_log(
    head: Annotated[
        str | None, typer.Option(help="A newest hash that was printed earlier: entries up to it must exist.")
    ] = None,
) -> None:
    """Verify the chain of hashes of the audit log.

    It prints the newest hash. Note that hash in another place: whoever can change the database can also
    remove the newest entries, and only a noted hash shows that.

    Example: palimpsest audit verify
    """
    require_service("audit")
    from commands import operate

    operate.verify_audit_log(head=head)
