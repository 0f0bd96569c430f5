"""The command line `palimpsest`: its commands, with their options and help.

Each command imports its implementation when it runs. So `palimpsest --help` is fast, and `palimpsest verify`
works in an installation without the service and the worker.
"""

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from commands import data, examining, modelling, sampling  # noqa: F401 - each adds its commands
from commands.application import OPERATORS, PEOPLE
from commands.application import app as app
from commands.failure import fail
from commands.session import AsJson, calling

Host = Annotated[
    str | None, typer.Option(help="Address to listen on (default: PALIMPSEST_HOST, or 127.0.0.1).")
]
Port = Annotated[
    int | None,
    typer.Option(help="Port to listen on; 0 takes a free one (default: PALIMPSEST_PORT, or 8000)."),
]


def _print_version(wanted: bool) -> None:
    if wanted:
        try:
            typer.echo(f"palimpsest {version('palimpsest')}")
        except PackageNotFoundError:
            typer.echo("palimpsest (version unknown: running from source, not installed)")
        raise typer.Exit


@app.callback()
def palimpsest(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    pass


WithoutKeys = Annotated[
    bool,
    typer.Option(
        "--without-keys",
        help="Require no API key, even on an address that other machines reach: whoever reaches it may do "
        "anything.",
    ),
]


@app.command(rich_help_panel=OPERATORS)
def up(host: Host = None, port: Port = None, without_keys: WithoutKeys = False) -> None:
    """Run the API, the sweeper and a worker together.

    Ctrl-C stops all of them; a running job goes back to the queue. `palimpsest sweep --help` explains the
    sweeper. On a loopback address no API key is needed; on any other, create one first: `palimpsest keys`.

    Example: palimpsest up --port 8080
    """
    _require_worker("up", otherwise="or run the API alone: palimpsest serve")
    from commands import operate

    operate.serve(host, port, with_worker=True, without_keys=without_keys)


@app.command(rich_help_panel=OPERATORS)
def serve(host: Host = None, port: Port = None, without_keys: WithoutKeys = False) -> None:
    """Run the API and the sweeper, without a worker.

    Start workers with `palimpsest worker`. `palimpsest sweep --help` explains the sweeper.

    Example: palimpsest serve --host 0.0.0.0 --port 8000
    """
    _require_service("serve")
    from commands import operate

    operate.serve(host, port, with_worker=False, without_keys=without_keys)


@app.command(rich_help_panel=OPERATORS)
def worker() -> None:
    """Run a worker, which executes jobs one by one.

    Run one for each GPU. It must use the same database, broker and PALIMPSEST_HOME as the API.

    Example: PALIMPSEST_DEVICE=cuda:1 palimpsest worker
    """
    _require_worker("worker", otherwise="or run it where that is installed")
    from commands import operate

    operate.work()


@app.command(rich_help_panel=OPERATORS)
def sweep(once: Annotated[bool, typer.Option("--once", help="Sweep once and exit.")] = False) -> None:
    """Run the sweeper, which does the background work.

    It notifies workers of waiting jobs, requeues the jobs of dead workers, deletes the files of purged
    versions, and signs receipts. `palimpsest up` and `palimpsest serve` include a sweeper.

    Example: palimpsest sweep --once
    """
    _require_service("sweep")
    from commands import operate

    operate.sweep(once=once)


@app.command(rich_help_panel=OPERATORS)
def collect() -> None:
    """Delete artifact files that nothing refers to.

    Jobs that were killed or cancelled can leave such files.

    Example: palimpsest collect
    """
    _require_service("collect")
    from commands import operate

    operate.collect()


@app.command(rich_help_panel=OPERATORS)
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Check the whole deployment, and change nothing.

    Checks the database and its schema, every artifact by its hash, the broker, free space, permissions,
    clocks and keys. Works while the service runs, and while it does not. Exits with 1 if there is a problem.

    Example: palimpsest doctor --json
    """
    _require_service("doctor")
    from commands import operate

    operate.doctor(as_json=as_json)


@app.command(rich_help_panel=OPERATORS)
def adopt() -> None:
    """Make the artifact folder this database's.

    The service refuses to start with a folder that belongs to another database. Use this command if you know
    that PALIMPSEST_HOME and PALIMPSEST_DATABASE_URL belong together. Files that no row refers to are deleted
    later.

    Example: palimpsest adopt
    """
    _require_service("adopt")
    from commands import operate

    operate.adopt()


@app.command(rich_help_panel=OPERATORS)
def migrate(
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Change nothing; fail if the migrations do not create the tables in the code."
        ),
    ] = False,
) -> None:
    """Migrate the database to this release's schema.

    It is safe to run again, or twice at once. `palimpsest up` and `palimpsest serve` migrate when they start.

    Example: palimpsest migrate
    """
    _require_service("migrate")
    from commands import operate

    if check:
        operate.check_migrations()
    else:
        operate.migrate()


@app.command(rich_help_panel=OPERATORS)
def backup(
    folder: Annotated[
        Path, typer.Argument(help="The folder to make; its disk needs room for all artifacts.")
    ],
) -> None:
    """Back up database, artifacts and keys while they are used.

    The folder appears complete or not at all. It contains the key that signs receipts: keep it private. The
    erasure log is not part of it; keep that elsewhere.

    Example: palimpsest backup /backups/monday
    """
    _require_service("backup")
    from commands import recover

    recover.back_up(folder)


@app.command(rich_help_panel=OPERATORS)
def restore(
    folder: Annotated[Path, typer.Argument(help="A folder that `palimpsest backup` made.")],
    erasures: Annotated[
        Path | None, typer.Option(help="The erasure log (default: PALIMPSEST_ERASURE_LOG, if it exists).")
    ] = None,
    without_erasures: Annotated[
        bool, typer.Option(help="Restore although it is unknown what was forgotten since the backup.")
    ] = False,
) -> None:
    """Restore a backup, and forget again what was forgotten since.

    The home folder and the database must be empty. Labels in the erasure log that the backup still holds
    cannot be drawn any more, and their forgets are queued again.

    Example: palimpsest restore /backups/monday --erasures /elsewhere/erasures.jsonl
    """
    _require_service("restore")
    from commands import recover

    recover.restore(folder, erasures=erasures, without_erasures=without_erasures)


@app.command("replay-erasures", rich_help_panel=OPERATORS)
def replay_erasures() -> None:
    """Forget again what the database does not know was forgotten.

    Needed when a database was restored by other means than `palimpsest restore`. While the erasure log has
    erasures that the database does not know, `up` and `serve` do not start.

    Example: palimpsest replay-erasures
    """
    _require_service("replay-erasures")
    from commands import recover

    recover.replay_erasures()


audit_app = typer.Typer(
    help="Check the audit log of requests and outcomes.\n\nExample: palimpsest audit verify",
    no_args_is_help=True,
)
app.add_typer(audit_app, name="audit", rich_help_panel=OPERATORS)


@audit_app.command("verify")
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
    _require_service("audit")
    from commands import operate

    operate.verify_audit_log(head=head)


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
    _require_service("keys")
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
    _require_service("keys")
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
    _require_service("keys")
    from commands import keys

    keys.revoke(key)


@keys_app.command("rotate-signing")
def rotate_signing_key() -> None:
    """Make a new key that signs receipts.

    The public half of the old one stays published at /v1/signing-keys: receipts that it signed still verify.

    Example: palimpsest keys rotate-signing
    """
    _require_service("keys")
    from commands import keys

    keys.rotate_signing()


@app.command(rich_help_panel=PEOPLE)
def verify(
    receipt: Annotated[Path, typer.Argument(help="The receipt, as GET /v1/jobs/JOB/receipt returned it.")],
    key: Annotated[
        Path | None,
        typer.Option(
            help="The public key, a PEM file, or the answer of GET /v1/signing-keys (default: the keys in "
            "PALIMPSEST_HOME/keys)."
        ),
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="Get the public keys from the service at this URL instead.")
    ] = None,
    files: Annotated[
        Path | None, typer.Option(help="A folder with files of the version, to compare with the receipt.")
    ] = None,
) -> None:
    """Verify a receipt. Works offline.

    Checks the signature, the format and, with --files, the sha256 of the files that the receipt names.

    Example: palimpsest verify receipt.json --key signing.pub.pem
    """
    from commands import verify

    verify.verify(receipt, key=key, url=url, files=files)


def _require_service(command: str) -> None:
    if find_spec("sqlalchemy") is None or find_spec("fastapi") is None:
        fail(f"`palimpsest {command}` needs the service: pip install 'palimpsest[service]'")


def _require_worker(command: str, *, otherwise: str) -> None:
    if find_spec("sqlalchemy") is None or find_spec("fastapi") is None:
        fail(f"`palimpsest {command}` needs the service and PyTorch: pip install 'palimpsest[worker]'")
    if find_spec("torch") is None:
        fail(f"`palimpsest {command}` needs PyTorch: pip install 'palimpsest[worker]', {otherwise}")
