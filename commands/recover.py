"""The commands that back up and restore a deployment."""

from pathlib import Path

import typer

from commands.deployment import loaded_deployment
from commands.failure import fail
from migrations import upgrade
from service.recovery import erasure_log
from service.recovery import replay as replaying
from service.recovery import restore as restoring
from service.recovery.backup import CannotBackUp
from service.recovery.backup import back_up as write_backup
from service.recovery.erasure_log import UnreadableLog
from service.recovery.erasures import AnyErasure
from service.recovery.withdrawals import Withdrawal
from service.registry.database import Database
from service.registry.opening import open_artifacts


def back_up(folder: Path) -> None:
    """Write a backup to a new folder."""
    with loaded_deployment() as deployment:
        try:
            manifest = write_backup(deployment, folder.absolute())
        except CannotBackUp as error:
            fail(str(error))
        except OSError as error:
            fail(f"cannot write the backup to {folder}: {error.strerror or error}")
    size = f"{manifest.artifacts} artifacts, {manifest.artifact_bytes:,} bytes"
    typer.echo(f"backed up the database and {size}, to {folder}")


def restore(folder: Path, *, erasures: Path | None, without_erasures: bool) -> None:
    """Restore a backup into the empty home and database of this deployment."""
    with loaded_deployment() as deployment:
        log = erasures or deployment.erasure_log
        if not log.exists() and not without_erasures:
            fail(
                f"there is no erasure log at {log}, so it is unknown what was forgotten since the backup; "
                "name it with --erasures FILE, or restore what may be forgotten too with --without-erasures"
            )
        try:
            known = [] if without_erasures else erasure_log.read(log)
            replayed = restoring.restore(deployment, folder, erasures=known, migrate=upgrade)
        except (CannotBackUp, UnreadableLog) as error:
            fail(str(error))
        except OSError as error:
            fail(
                f"cannot restore {folder}: {error.strerror or error}. What is there is incomplete: empty "
                f"{open_artifacts(deployment).place} and {deployment.keys}, and run the same command again"
            )
    typer.echo(f"restored {folder}")
    _report(replayed)


def replay_erasures() -> None:
    """Replay the erasures that the database does not know."""
    with loaded_deployment() as deployment:
        database = Database(deployment.database_url)
        try:
            erasures = erasure_log.read(deployment.erasure_log)
        except FileNotFoundError:
            fail(f"there is no erasure log at {deployment.erasure_log}")
        except UnreadableLog as error:
            fail(str(error))
        with database.transaction() as session:
            replayed = replaying.replay(session, erasures, max_attempts=deployment.max_attempts)
    _report(replayed)


def _report(replayed: list[AnyErasure]) -> None:
    for erasure in replayed:
        if isinstance(erasure, Withdrawal):
            typer.echo(f"withdrawn again: {erasure.summary}")
        else:
            typer.echo(f"to be forgotten again: {erasure.summary} ({erasure.id})")
    typer.echo(f"{len(replayed)} erasures were newer than the backup")
    typer.echo("all sessions have ended: people sign in again")
