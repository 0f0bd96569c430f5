"""Run one instance: the API, the sweeper and, unless the worker runs elsewhere, a worker as child process.

    supervise(..., with_worker=True)     palimpsest up
    supervise(..., with_worker=False)    palimpsest serve

The worker ends when this process ends, even if this process is killed. SIGTERM and Ctrl-C stop the instance
cleanly: a running job goes back to the queue.
"""

import fcntl
import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

from service.api.app import create_app
from service.process import runtime
from service.process.errors import CannotStart
from service.process.http_server import Server, server_config
from service.process.maintenance import start_maintenance
from service.process.signer import make_signing_key, refuse_older_than_erasures
from service.process.stopping import stop_on_signals
from service.process.sweeper import sweep_until
from service.process.worker_process import WorkerProcess
from service.registry import keys
from service.registry.database import Database
from service.registry.waiting import waiting_at_most
from service.settings import Settings, is_loopback

log = logging.getLogger(__name__)

CHECK_SECONDS = 0.1
"""How often the supervisor checks that the server and the worker run."""
REQUEST_GRACE_SECONDS = 5
"""How long open requests may take to end when the server stops."""
DATABASE_SECONDS = 2.0
"""How long stopping may wait for the database, to end the lease of a worker that had to be killed."""


def supervise(
    deployment: Settings,
    *,
    migrate: Callable[[Database], None],
    with_worker: bool,
    announce: Callable[[str], None],
) -> None:
    """Serve until SIGTERM or Ctrl-C. Calls `announce` with the ready line once requests are answered.

    migrate: migrates the database to this release's schema; called before anything else uses it.
    with_worker: run a worker too. Only one instance with a worker may run on a home folder.

    Raises CannotStart, and DatabaseUnavailable or DatabaseTooNew from the migration.
    """
    runtime.share_heaps()
    stop = stop_on_signals()
    _make_home(deployment.home)
    with _home_lock(deployment.home, exclusive=with_worker), _listening(deployment) as listener:
        database = Database(deployment.database_url)
        migrate(database)
        refuse_older_than_erasures(database, deployment)
        _refuse_without_keys(database, deployment)
        make_signing_key(database, deployment)
        worker = WorkerProcess(deployment, database) if with_worker else None
        server = _Server(deployment, listener)
        sweeper = Thread(target=sweep_until, args=(stop, database, deployment), name="sweeper")
        try:
            if worker:
                worker.start()
            sweeper.start()
            start_maintenance(stop, database, deployment)
            server.start()
            runtime.shorten_pauses()
            if worker:  # until it has proved that it is this project's worker, not a file of the same name
                worker.wait_until_identified(stop)
            if not stop.is_set():
                announce(f"Palimpsest is ready at {_url(deployment.host, listener)}")
            while not stop.wait(CHECK_SECONDS):
                server.check()
                if worker:
                    worker.check()
        finally:
            stop.set()
            server.request_stop()
            if worker:
                with waiting_at_most(DATABASE_SECONDS):
                    worker.stop()
            server.join()
            if sweeper.ident is not None:
                sweeper.join()
            database.dispose()


def _refuse_without_keys(database: Database, deployment: Settings) -> None:
    """Raise CannotStart if a key is required and there is none; warn if anybody may do anything."""
    if not deployment.keys_required:
        if not is_loopback(deployment.host):
            log.warning("no API key is required: whoever reaches %s may do anything", deployment.host)
        return
    with database.reading() as session:
        if keys.is_any_usable(session):
            return
    raise CannotStart(
        f"listening on {deployment.host} requires API keys, and there is none: create one with "
        "`palimpsest keys create operator --scope admin --deployment`, or start with --without-keys to let "
        "everybody in who reaches this address"
    )


class _Server:
    """uvicorn in a thread of its own: the main thread handles the signals and the worker."""

    def __init__(self, deployment: Settings, listener: socket.socket) -> None:
        config = server_config(
            create_app(deployment),
            deployment,
            log_config=None,
            log_level=deployment.log_level,
            access_log=deployment.log_level == "debug",
            timeout_graceful_shutdown=REQUEST_GRACE_SECONDS,
        )
        self._server = Server(config)
        self._thread = Thread(target=self._server.run, args=([listener],), name="api", daemon=True)

    def start(self) -> None:
        """Return once requests are answered. Raises CannotStart."""
        self._thread.start()
        while not self._server.started:
            self.check()
            self._thread.join(0.01)

    def check(self) -> None:
        if not self._thread.is_alive():
            raise CannotStart(
                "the HTTP server has ended unexpectedly; the log lines of uvicorn above say why"
            )

    def request_stop(self) -> None:
        self._server.should_exit = True

    def join(self) -> None:
        if self._thread.ident is not None:
            self._thread.join(REQUEST_GRACE_SECONDS * 2)


def _make_home(home: Path) -> None:
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotStart(f"cannot use the home folder {home}: {error.strerror}") from error
    if not os.access(home, os.W_OK | os.X_OK):
        raise CannotStart(f"cannot write to the home folder {home}")


@contextmanager
def _home_lock(home: Path, *, exclusive: bool) -> Iterator[None]:
    """Hold <home>/lock if `exclusive`. The kernel releases it when this process ends, killed or not.

    The file holds the id of the process that locked it. Raises CannotStart if another process holds the lock.
    """
    if not exclusive:
        yield
        return
    with (home / "lock").open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            raise CannotStart(
                f"{home} is in use by process {holder}; stop it, or choose another PALIMPSEST_HOME"
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


@contextmanager
def _listening(deployment: Settings) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in deployment.host else socket.AF_INET
    try:
        listener = socket.create_server((deployment.host, deployment.port), family=family, backlog=2048)
    except OSError as error:
        reason = str(error.strerror).partition(" (")[0]  # Python repeats the address in brackets
        raise CannotStart(
            f"cannot listen on {deployment.host}:{deployment.port}: {reason}; choose another --port"
        ) from error
    with listener:
        yield listener


def _url(host: str, listener: socket.socket) -> str:
    """Return the address at which this machine reaches the server."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{listener.getsockname()[1]}"
