"""An instance whose every part can be broken and restored: processes, database, broker and disk."""

import ctypes
import errno
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import redis

from service.queue.received import QUEUE
from service.registry.database import Database
from service.settings import Settings
from tests.chaos.schedule import Fault
from tests.faults.servers import (
    Proxy,
    Server,
    free_port,
    own_postgresql,
    own_redis,
    postgresql_url,
    proxy_to,
    redis_url,
)
from tests.instance import children, is_running

DISK_BYTES = 256 << 20
RESTART_SECONDS = 0.5
"""How long a process that ended stays away, as under a process manager."""
START_TRIES = 5
GARBAGE = (b"", b"{", b"null", b"[]", b"5", b'{"body": 5}', b"\xff\xfe")
LEASE_SECONDS = 3.0
MAX_ATTEMPTS = 30
MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass
class Role:
    """A process that runs one command, and is started again when it ends."""

    command: str
    process: subprocess.Popen[bytes] | None = None
    restart_at: float = 0.0
    restarts: int = -1


@dataclass
class Stage:
    """The parts of one run. `tick` has to be called often: it ends faults and restarts processes."""

    folder: Path
    deployment: Settings
    roles: list[Role]
    has_own_disk: bool
    postgresql: Server | None = None
    redis: Server | None = None
    way_to_postgresql: Proxy | None = None
    way_to_redis: Proxy | None = None
    database: Database = field(init=False)
    """For the run itself: it does not go through the proxy."""
    _undo: list[tuple[float, Callable[[], None]]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.deployment.port}"

    @property
    def log(self) -> Path:
        return self.folder / "log.txt"

    def tick(self, now: float) -> None:
        """End the faults whose time is over, and restart the processes that have ended."""
        due = [undo for at, undo in self._undo if at <= now]
        self._undo = [(at, undo) for at, undo in self._undo if at > now]
        for undo in due:
            undo()
        for role in self.roles:
            if role.process is not None and role.process.poll() is not None:
                role.process, role.restart_at = None, time.monotonic() + RESTART_SECONDS
            if role.process is None and time.monotonic() >= role.restart_at:
                self._start(role)

    def restore(self) -> None:
        """End every fault now."""
        undo, self._undo = [undo for _, undo in self._undo], []
        for each in undo:
            each()

    def begin(self, fault: Fault) -> None:
        """Break what the fault says, until its time is over."""
        undo = FAULTS[fault.kind](self, fault)
        if undo is not None:
            self._undo.append((fault.at + fault.seconds, undo))

    def stop(self) -> None:
        """Stop the processes cleanly; kill one that does not end in a while."""
        for role in self.roles:
            if role.process is not None:
                role.process.terminate()
        for role in self.roles:
            if role.process is not None:
                with suppress(subprocess.TimeoutExpired):
                    role.process.wait(60)

    def kill(self) -> None:
        """Kill every process that still runs."""
        for role in self.roles:
            if role.process is not None and role.process.poll() is None:
                for pid in [*children(role.process.pid), role.process.pid]:
                    _signal(pid, signal.SIGKILL)
                role.process.wait()

    def api(self) -> int | None:
        """Return the process id of the API."""
        return self._pid(self.roles[0])

    def worker(self, choice: float) -> int | None:
        """Return the process id of a worker, if one runs."""
        if len(self.roles) == 1:
            api = self.api()
            pids = children(api) if api is not None else []
        else:
            pids = [pid for role in self.roles[1:] if (pid := self._pid(role)) is not None]
        return pids[int(choice * len(pids))] if pids else None

    def _pid(self, role: Role) -> int | None:
        return role.process.pid if role.process is not None and is_running(role.process.pid) else None

    def _start(self, role: Role) -> None:
        role.restarts += 1
        with self.log.open("ab") as log:
            role.process = subprocess.Popen(
                [sys.executable, "-m", "commands", role.command],
                env={**os.environ, **self.deployment.as_environment()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )


@contextmanager
def staged(backing: str, folder: Path) -> Iterator[Stage]:
    """Yield the parts of a run on this backing, with nothing started but the servers."""
    home = folder / "home"
    home.mkdir(parents=True)
    with ExitStack() as stack:
        has_own_disk = stack.enter_context(_small_disk(home))
        settings = Settings(
            home=home,
            port=free_port(),
            lease_seconds=LEASE_SECONDS,
            sweep_seconds=0.25,
            max_attempts=MAX_ATTEMPTS,
        )
        if backing == "sqlite":
            stage = Stage(folder, settings, [Role("up")], has_own_disk)
            stage.database = Database(settings.database_url)
        else:
            postgresql = stack.enter_context(own_postgresql("fsync=off"))
            broker = stack.enter_context(own_redis())
            to_postgresql, to_broker = (
                stack.enter_context(proxy_to(server.port)) for server in (postgresql, broker)
            )
            settings = settings.model_copy(
                update={
                    "database_url": postgresql_url(postgresql, port=to_postgresql.port),
                    "broker_url": f"redis://127.0.0.1:{to_broker.port}/0",
                }
            )
            roles = [Role("serve"), Role("worker"), Role("worker")]
            stage = Stage(folder, settings, roles, has_own_disk, postgresql, broker, to_postgresql, to_broker)
            stage.database = Database(postgresql_url(postgresql))
        stack.callback(stage.database.dispose)
        stack.callback(stage.kill)
        stack.callback(stage.restore)
        yield stage


@contextmanager
def _small_disk(folder: Path) -> Iterator[bool]:
    """Mount a small file system on the folder. Yields False where this is not allowed: only root may."""
    size = f"size={DISK_BYTES}".encode()
    if _libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, size) != 0:
        yield False
        return
    try:
        yield True
    finally:
        _libc.umount2(os.fsencode(folder), MNT_DETACH)


def _signal(pid: int | None, number: signal.Signals) -> None:
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _kill(pid: int | None) -> None:
    _signal(pid, signal.SIGKILL)


def _terminate(pid: int | None) -> None:
    _signal(pid, signal.SIGTERM)


def _suspend(pid: int | None) -> Callable[[], None]:
    _signal(pid, signal.SIGSTOP)
    return lambda: _signal(pid, signal.SIGCONT)


def _fill(stage: Stage, fault: Fault) -> Callable[[], None] | None:
    if not stage.has_own_disk:
        return None
    filler = stage.deployment.home / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
    return lambda: filler.unlink(missing_ok=True)


def _lose_messages(stage: Stage, fault: Fault) -> None:
    if stage.redis is not None:
        with (
            suppress(redis.RedisError),
            redis.Redis.from_url(redis_url(stage.redis), socket_timeout=1) as broker,
        ):
            broker.flushall()
        return
    for file in (stage.deployment.home / "queue").glob("*.msg"):
        file.unlink(missing_ok=True)


def _send_garbage(stage: Stage, fault: Fault) -> None:
    if stage.redis is not None:
        with (
            suppress(redis.RedisError),
            redis.Redis.from_url(redis_url(stage.redis), socket_timeout=1) as broker,
        ):
            broker.lpush(QUEUE, *GARBAGE)
        return
    folder = stage.deployment.home / "queue"
    for number, content in enumerate(GARBAGE):
        with suppress(OSError):
            (folder / f"0-{number}.{QUEUE}.msg").write_bytes(content)


def _connection(server: Server) -> "redis.Redis":
    return redis.Redis.from_url(redis_url(server), socket_timeout=1)


def _lock_sqlite(stage: Stage, fault: Fault) -> Callable[[], None] | None:
    connection = sqlite3.connect(
        stage.deployment.home / "palimpsest.db", isolation_level=None, check_same_thread=False, timeout=0.2
    )
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError:
        connection.close()
        return None
    return connection.close


def _server(part: str) -> Callable[[Stage], Server]:
    def find(stage: Stage) -> Server:
        server: Server | None = getattr(stage, part)
        assert server is not None
        return server

    return find


def _kill_server(find: Callable[[Stage], Server]) -> Callable[[Stage, Fault], Callable[[], None]]:
    def act(stage: Stage, fault: Fault) -> Callable[[], None]:
        find(stage).kill()
        return lambda: _start_server(find(stage))

    return act


def _start_server(server: Server) -> None:
    """Start the server. PostgreSQL refuses for a moment if a process of the killed one is still ending."""
    for _ in range(START_TRIES):
        try:
            server.start()
            return
        except AssertionError:
            server.kill()
            time.sleep(RESTART_SECONDS)
    server.start()


def _suspend_server(find: Callable[[Stage], Server]) -> Callable[[Stage, Fault], Callable[[], None]]:
    def act(stage: Stage, fault: Fault) -> Callable[[], None]:
        find(stage).suspend()
        return find(stage).resume

    return act


def _cut(part: str) -> Callable[[Stage, Fault], None]:
    return lambda stage, fault: getattr(stage, part).cut()


def _silence(part: str) -> Callable[[Stage, Fault], Callable[[], None]]:
    def act(stage: Stage, fault: Fault) -> Callable[[], None]:
        getattr(stage, part).silence()
        resume: Callable[[], None] = getattr(stage, part).resume
        return resume

    return act


FAULTS: dict[str, Callable[[Stage, Fault], Callable[[], None] | None]] = {
    "kill the API": lambda stage, fault: _kill(stage.api()),
    "suspend the API": lambda stage, fault: _suspend(stage.api()),
    "terminate the API": lambda stage, fault: _terminate(stage.api()),
    "kill a worker": lambda stage, fault: _kill(stage.worker(fault.choice)),
    "suspend a worker": lambda stage, fault: _suspend(stage.worker(fault.choice)),
    "terminate a worker": lambda stage, fault: _terminate(stage.worker(fault.choice)),
    "fill the disk": _fill,
    "lose the messages": _lose_messages,
    "send garbage messages": _send_garbage,
    "lock the database": _lock_sqlite,
    "kill the database": _kill_server(_server("postgresql")),
    "suspend the database": _suspend_server(_server("postgresql")),
    "cut the database off": _cut("way_to_postgresql"),
    "silence the database": _silence("way_to_postgresql"),
    "kill the broker": _kill_server(_server("redis")),
    "suspend the broker": _suspend_server(_server("redis")),
    "cut the broker off": _cut("way_to_redis"),
    "silence the broker": _silence("way_to_redis"),
}
"""What each kind of fault does. Each returns what ends it, or None if it is over at once."""
