"""The commands that run a service and maintain it, on the machine where it is installed."""

import gc
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer

from commands.application import OPERATORS, PEOPLE, app
from commands.failure import require_service, require_worker

Host = Annotated[
    str | None, typer.Option(help="Address to listen on (default: PALIMPSEST_HOST, or 127.0.0.1).")
]
Port = Annotated[
    int | None,
    typer.Option(help="Port to listen on; 0 takes a free one (default: PALIMPSEST_PORT, or 8000)."),
]


WithoutKeys = Annotated[
    bool,
    typer.Option(
        "--without-keys",
        help="Require no API key, even on an address that other machines reach: whoever reaches it may do "
        "anything.",
    ),
]


def import_operate() -> ModuleType:
    """Import what runs the processes: half a million objects, among which Python looks for no garbage.

    There is none yet, and the search takes a tenth of the time. These objects stay, so later searches leave
    them out, too.
    """
    gc.disable()
    try:
        from commands import operate
    finally:
        gc.freeze()
        gc.enable()
    return operate


@app.command(rich_help_panel=OPERATORS)
def up(host: Host = None, port: Port = None, without_keys: WithoutKeys = False) -> None:
    """Run the API, the sweeper and a worker together.

    Ctrl-C stops all of them; a running job goes back to the queue. `palimpsest sweep --help` explains the
    sweeper. On a loopback address no API key is needed; on any other, create one first: `palimpsest keys`.

    Example: palimpsest up --port 8080
    """
    require_worker("up", otherwise="or run the API alone: palimpsest serve")
    operate = import_operate()
    operate.serve(host, port, with_worker=True, without_keys=without_keys)


@app.command(rich_help_panel=OPERATORS)
def serve(host: Host = None, port: Port = None, without_keys: WithoutKeys = False) -> None:
    """Run the API and the sweeper, without a worker.

    Start workers with `palimpsest worker`. `palimpsest sweep --help` explains the sweeper.

    Example: palimpsest serve --host 0.0.0.0 --port 8000
    """
    require_service("serve")
    operate = import_operate()
    operate.serve(host, port, with_worker=False, without_keys=without_keys)


@app.command(rich_help_panel=OPERATORS)
def worker(
    queues: Annotated[
        str | None,
        typer.Option(
            help="The queues whose jobs it takes: default,gpu (default: PALIMPSEST_QUEUES, or default).",
            show_default=False,
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            help="Where it computes: auto, cpu, cuda:1 (default: PALIMPSEST_DEVICE, or auto).",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Run a worker, which executes jobs one by one.

    On a machine with several GPUs it runs one process for each, unless a device is named. It must use the
    same database, broker and PALIMPSEST_HOME as the API. SIGTERM stops it: its job goes back to the queue.

    Example: palimpsest worker --queues default,gpu --device cuda:1
    """
    from service import early_signals

    early_signals.exit_on_sigterm()
    require_worker("worker", otherwise="or run it where that is installed")
    from commands import working

    working.work(queues=queues, device=device)


@app.command(rich_help_panel=OPERATORS)
def drain(
    name: Annotated[
        str | None,
        typer.Argument(metavar="WORKER", help="The worker, as HOST:PID (default: all of this machine)."),
    ] = None,
    everywhere: Annotated[bool, typer.Option("--all", help="All workers, on every machine.")] = False,
    hand_back: Annotated[
        bool,
        typer.Option("--hand-back", help="Do not finish the running job, but hand it back to the queue."),
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until they have ended.")] = False,
    timeout: Annotated[
        float | None, typer.Option(min=0, help="How many seconds to wait at most (default: no limit).")
    ] = None,
) -> None:
    """Let workers end after the job that they run.

    They take no more jobs. Each notices within four seconds, and ends with exit code 0. What runs it may
    start it again: `palimpsest up` does. `palimpsest doctor` lists the workers.

    Example: palimpsest drain gpu-7:4711 --wait
    """
    require_service("drain")
    from commands import working

    working.drain(name, everywhere=everywhere, hand_back=hand_back, wait=wait, timeout=timeout)


@app.command(rich_help_panel=OPERATORS)
def sweep(once: Annotated[bool, typer.Option("--once", help="Sweep once and exit.")] = False) -> None:
    """Run the sweeper, which does the background work.

    It notifies workers of waiting jobs, requeues the jobs of dead workers, deletes the files of purged
    versions, and signs receipts. `palimpsest up` and `palimpsest serve` include a sweeper.

    Example: palimpsest sweep --once
    """
    require_service("sweep")
    from commands import operate

    operate.sweep(once=once)


@app.command(rich_help_panel=OPERATORS)
def collect() -> None:
    """Delete artifact files that nothing refers to.

    Jobs that were killed or cancelled can leave such files.

    Example: palimpsest collect
    """
    require_service("collect")
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
    require_service("doctor")
    from commands import operate

    operate.doctor(as_json=as_json)


@app.command(rich_help_panel=OPERATORS)
def adopt() -> None:
    """Make the artifact store this database's.

    The service refuses to start with a folder that belongs to another database. Use this command if you know
    that PALIMPSEST_HOME and PALIMPSEST_DATABASE_URL belong together. Files that no row refers to are deleted
    later.

    Example: palimpsest adopt
    """
    require_service("adopt")
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
    require_service("migrate")
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
    require_service("backup")
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
    require_service("restore")
    from commands import recover

    recover.restore(folder, erasures=erasures, without_erasures=without_erasures)


@app.command("replay-erasures", rich_help_panel=OPERATORS)
def replay_erasures() -> None:
    """Forget again what the database does not know was forgotten.

    Needed when a database was restored by other means than `palimpsest restore`. While the erasure log has
    erasures that the database does not know, `up` and `serve` do not start.

    Example: palimpsest replay-erasures
    """
    require_service("replay-erasures")
    from commands import recover

    recover.replay_erasures()


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
