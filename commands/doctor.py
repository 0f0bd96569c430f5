"""What `palimpsest doctor` does: check a whole deployment, and change nothing.

It works while the service runs and while it does not. A finding is `ok`, a `warning`, or a `problem`, with
which the command ends with exit code 1.
"""

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import typer
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from sqlalchemy import select
from sqlalchemy.orm import Session

from migrations import check_not_newer, is_current
from service.home import may_others_read
from service.process import collector
from service.queue.messages import count_waiting_messages
from service.receipts.signing import PRIVATE, RETIRED
from service.receipts.signing_keys import describe_loss, find_unpublished
from service.recovery import erasure_log
from service.registry import artifact_references, database_file, scrub, space, store_identity, workers
from service.registry.artifacts import Artifacts
from service.registry.database import Database, now
from service.registry.errors import DatabaseUnavailable, RegistryError
from service.registry.opening import open_artifacts
from service.registry.tables import ArtifactHash, ModelRow, Row, VersionRow
from service.settings import Settings
from service.urls import sqlite_file

Status = Literal["ok", "warning", "problem"]

LARGEST_SKEW_SECONDS = 2.0
MAX_LISTED = 50
"""How many damaged artifacts are listed for people; --json has all of them."""


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    check: str
    status: Status
    message: str
    details: list[dict[str, Any]] = field(default_factory=list)


def examine(deployment: Settings, *, as_json: bool) -> bool:
    """Check everything and print the findings. Returns whether there is no problem."""
    findings = list(find(deployment))
    if as_json:
        ok = all(finding.status != "problem" for finding in findings)
        typer.echo(json.dumps({"ok": ok, "findings": [asdict(finding) for finding in findings]}, indent=2))
        return ok
    width = max(len(finding.check) for finding in findings)
    for finding in findings:
        typer.echo(f"{finding.status:8}{finding.check:{width + 2}}{finding.message}")
        for detail in finding.details[:MAX_LISTED]:
            typer.echo(" " * (width + 10) + ", ".join(f"{key} {value}" for key, value in detail.items()))
        if len(finding.details) > MAX_LISTED:
            typer.echo(" " * (width + 10) + f"and {len(finding.details) - MAX_LISTED} more: see --json")
    return all(finding.status != "problem" for finding in findings)


def find(deployment: Settings) -> Iterator[Finding]:
    """Iterate over the findings of every check."""
    yield _check_home(deployment)
    yield from _check_space(deployment)
    yield _check_data(deployment)
    if deployment.signer:
        yield _check_signing_key(deployment)
    yield _check_broker(deployment)
    database, finding = _open_database(deployment)
    yield finding
    if database is not None:
        artifacts = open_artifacts(deployment)
        for name, check in (
            ("schema", lambda: _check_schema(database)),
            ("clock", lambda: _check_clock(database)),
            ("workers", lambda: _check_workers(database)),
            *(_checks_of_signer(database, deployment) if deployment.signer else []),
            ("artifact store", lambda: _check_identity(database, artifacts)),
            *([("bucket", lambda: _check_bucket(artifacts))] if artifacts.store.is_bucket else []),
            ("artifacts", lambda: _check_artifacts(database, artifacts)),
            ("garbage", lambda: _check_garbage(database, artifacts, deployment)),
        ):
            yield _attempt(name, check)
        database.dispose()


def _checks_of_signer(database: Database, deployment: Settings) -> list[tuple[str, Callable[[], Finding]]]:
    return [
        ("keys of receipts", lambda: _check_keys_of_receipts(database, deployment)),
        ("erasure log", lambda: _check_erasure_log(database, deployment)),
    ]


def _attempt(name: str, check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except DatabaseUnavailable as error:
        return Finding(name, "problem", f"{error.message} ({error.reason})")
    except RegistryError as error:
        return Finding(name, "problem", error.message)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return Finding(name, "problem", f"{place}{error.strerror}")


def _check_home(deployment: Settings) -> Finding:
    home = deployment.home
    if not home.is_dir():
        return Finding("home", "problem", f"{home} is not a folder; `palimpsest up` makes it")
    if may_others_read(deployment):
        return Finding(
            "home", "warning", f"other users can read {home}; the next start of the service restricts it"
        )
    return Finding("home", "ok", str(home))


def _check_space(deployment: Settings) -> Iterator[Finding]:
    for name, folder in space.find_folders(deployment).items():
        check = f"space of {name.removeprefix('the ')}"
        try:
            free = space.measure_free_bytes(folder)
        except OSError as error:
            yield Finding(check, "problem", f"{folder}: {error.strerror}")
            continue
        text = f"{free / space.MEBIBYTE:,.0f} MiB free on the disk of {folder}"
        if free < deployment.reserve_bytes:
            yield Finding(check, "problem", f"{text}, less than the reserve: new work is refused")
        else:
            yield Finding(check, "ok", text)


def _check_data(deployment: Settings) -> Finding:
    if not deployment.data.exists():
        return Finding("datasets", "ok", f"{deployment.data} does not exist: only `digits` needs no files")
    try:
        next(deployment.data.iterdir(), None)
    except OSError as error:
        return Finding("datasets", "problem", f"{deployment.data} cannot be read: {error.strerror}")
    return Finding("datasets", "ok", str(deployment.data))


def _check_signing_key(deployment: Settings) -> Finding:
    private = deployment.keys / PRIVATE
    try:
        load_pem_private_key(private.read_bytes(), password=None)
    except FileNotFoundError:
        return Finding("signing key", "ok", "there is none; it is needed once a receipt is signed")
    except OSError as error:
        return Finding("signing key", "problem", f"{private} cannot be read: {error.strerror}")
    except (ValueError, TypeError):
        return Finding("signing key", "problem", f"{private} is not a private key; restore it from a backup")
    if private.stat().st_mode & 0o077:
        return Finding("signing key", "warning", f"other users can read {private}: chmod 600")
    return Finding("signing key", "ok", str(private))


def _check_broker(deployment: Settings) -> Finding:
    counted = [count_waiting_messages(deployment, queue) for queue in deployment.queue_names]
    waiting = None if None in counted else sum(count or 0 for count in counted)
    if waiting is None:
        return Finding("broker", "problem", "it does not answer; jobs are accepted, and start once it does")
    return Finding("broker", "ok", f"{waiting} messages wait for a worker")


def _open_database(deployment: Settings) -> tuple[Database | None, Finding]:
    """Return the database, if it can be read, and the finding about it. A missing file is not made."""
    file = sqlite_file(deployment.database_url)
    if file is not None and not file.exists():
        return None, Finding("database", "problem", f"{file} does not exist; `palimpsest up` makes it")
    try:
        database_file.check_database_file(deployment.database_url, largest_bytes=1 << 62)
        database = Database(deployment.database_url)
        database_file.check_owner(database)
    except DatabaseUnavailable as error:
        return None, Finding("database", "problem", f"{error.message} ({error.reason})")
    except RegistryError as error:
        return None, Finding("database", "problem", error.message)
    url = database.engine.url
    return database, Finding("database", "ok", str(file or f"PostgreSQL on {url.host}, {url.database}"))


def _check_schema(database: Database) -> Finding:
    check_not_newer(database)
    if is_current(database):
        return Finding("schema", "ok", "of this release")
    return Finding(
        "schema", "problem", "of an earlier release; the next start or `palimpsest migrate` changes it"
    )


def _check_clock(database: Database) -> Finding:
    with database.reading() as session:
        before = time.time()
        found = session.scalar(select(now()))
        local = (before + time.time()) / 2
    assert isinstance(found, datetime)
    there = (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    skew = there - local
    text = f"the database's clock is {abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'} this machine's"
    status: Status = "warning" if abs(skew) > LARGEST_SKEW_SECONDS else "ok"
    return Finding("clock", status, text)


def _check_workers(database: Database) -> Finding:
    """List the workers that live, with their queues and what they offer from other packages."""
    with database.reading() as session:
        live = workers.list_live(session)
        waiting = workers.count_waiting(session, seconds=0)
    details = [
        {
            "worker": row.name,
            "queues": " ".join(workers.queues_of(row)) + (", draining" if row.drain else ""),
            "code": row.code,
            "offers": _list_offers(row.offers),
        }
        for row in live
    ]
    if waiting:
        found = "; ".join(f"{reason} ({count} queued)" for reason, count in waiting.items())
        return Finding("workers", "problem", f"{len(live)} run; jobs wait, because {found}", details)
    return Finding("workers", "ok", f"{len(live)} run", details)


def _list_offers(offers: Mapping[str, Any] | None) -> str:
    found = [
        f"{one['name']} ({one['package']['name']} {one['package']['version']})"
        for items in (offers or {}).values()
        for one in items
    ]
    return "besides what is built in: " + ", ".join(found) if found else "what is built in"


def _check_keys_of_receipts(database: Database, deployment: Settings) -> Finding:
    name = "keys of receipts"
    if (reason := describe_loss(database, deployment.keys)) is not None:
        return Finding(name, "problem", reason)
    with database.reading() as session:
        lost = find_unpublished(session, deployment.keys)
    if lost:
        text = f"receipts do not verify, because {RETIRED} lacks the keys that signed them: restore it"
        return Finding(name, "problem", text, [{"keyid": keyid} for keyid in sorted(lost)])
    return Finding(name, "ok", "the public halves of all are there")


def _check_erasure_log(database: Database, deployment: Settings) -> Finding:
    path, name = deployment.erasure_log, "erasure log"
    try:
        erasures = erasure_log.read(path) if path.exists() else []
    except erasure_log.UnreadableLog as error:
        return Finding(name, "problem", f"{error}; bring back a copy of the file")
    with database.reading() as session:
        missing = erasure_log.find_missing(session, erasures)
        unknown = erasure_log.find_unknown(session, erasures)
    if unknown:
        text = f"{path} has {len(unknown)} erasures that the database does not know"
        return Finding(name, "problem", f"{text}: it was restored; run `palimpsest replay-erasures`")
    if missing:
        text = f"{path} lacks {len(missing)} of the lines that were written to it"
        return Finding(name, "problem", f"{text}: the next start of the service writes them again")
    return Finding(name, "ok", f"{path}: {len(erasures)} lines")


def _check_identity(database: Database, artifacts: Artifacts) -> Finding:
    with database.reading() as session:
        claimed = store_identity.is_claimed(session, artifacts)
        used = claimed or bool(artifact_references.find_referenced(session))
    if claimed:
        return Finding("artifact store", "ok", f"{artifacts.place} belongs to this database")
    store_identity.check_store(database, artifacts)
    status: Status = "warning" if used else "ok"
    return Finding("artifact store", status, f"{artifacts.place} gets its id at the next start")


def _check_bucket(artifacts: Artifacts) -> Finding:
    if (reason := artifacts.store.describe_retention()) is not None:
        return Finding("bucket", "warning", f"{reason}; receipts of purges will say so")
    return Finding("bucket", "ok", "what is deleted is deleted with all of its versions")


def _check_artifacts(database: Database, artifacts: Artifacts) -> Finding:
    with database.reading() as session:
        names = scrub.list_artifacts(session)
    faults: dict[str, scrub.Fault] = {}
    size = 0
    for sha256 in names:
        fault, read = scrub.check_artifact(artifacts, sha256)
        size += read
        if fault is not None:
            faults[sha256] = fault
    with database.reading() as session:
        uses = _find_uses(session, set(faults) & artifact_references.find_referenced(session))
    text = f"{len(names)} artifacts that rows refer to, {size / space.MEBIBYTE:,.1f} MiB: "
    details = [
        {"artifact": sha256, "fault": faults[sha256], "used by": "; ".join(used)}
        for sha256, used in uses.items()
    ]
    if details:
        return Finding("artifacts", "problem", f"{text}{len(details)} are damaged; restore them", details)
    return Finding("artifacts", "ok", f"{text}all intact")


def _find_uses(session: Session, wanted: set[str]) -> dict[str, list[str]]:
    """Return {sha256: what refers to it} of these artifacts."""
    uses: defaultdict[str, list[str]] = defaultdict(list)
    if not wanted:
        return uses
    query = select(ModelRow.name, VersionRow.number, VersionRow.files)
    for model, number, files in session.execute(query.join(VersionRow, VersionRow.model_id == ModelRow.id)):
        for name, file in files.items():
            if file["sha256"] in wanted:
                uses[file["sha256"]].append(f"model {model} version {number} {name}")
    for table in Row.metadata.tables.values():
        for column in (column for column in table.columns if isinstance(column.type, ArtifactHash)):
            for sha256 in session.scalars(select(column).where(column.in_(wanted))):
                uses[sha256].append(f"table {table.name}")
    return dict(sorted(uses.items()))


def _check_garbage(database: Database, artifacts: Artifacts, deployment: Settings) -> Finding:
    with database.reading() as session:
        orphans = artifact_references.find_unreferenced(session, artifacts)
    garbage = collector.find_garbage(deployment)
    if not orphans and not garbage:
        return Finding("garbage", "ok", "none that is older than an hour")
    return Finding(
        "garbage",
        "warning",
        f"{len(orphans)} artifacts that no row refers to, {len(garbage)} files of interrupted writes and old "
        "messages; the running service or `palimpsest collect` deletes them",
    )
