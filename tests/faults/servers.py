"""Servers that belong to one test, which may stop, suspend and cut off as it likes.

Each is a context manager: `own_postgresql`, `own_redis`, `own_pgbouncer`, and `proxy_to` for a connection
that can go silent. A server may run on a host of its own (hosts.py). The shared servers of the machine are
never touched.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import redis

from tests.conftest import missing
from tests.faults.hosts import THIS_MACHINE, Host
from tests.instance import children, wait_for

BUFFER_BYTES = 1 << 16
MOST_REMEMBERED_BYTES = 1 << 20


def free_port() -> int:
    """Return a port of the loopback address on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


@dataclass
class Server:
    """A server process that a test can kill, suspend and start again on the same port."""

    name: str
    port: int
    command: Sequence[str]
    is_answering: Callable[[], bool]
    host: Host = THIS_MACHINE
    as_user: str | None = None
    """Run as this user if the test runs as root; PostgreSQL and PgBouncer refuse to run as root."""
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self.process = subprocess.Popen(
            self.host.command(*_as_user(self.as_user, self.command)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_for(f"{self.name} answers", self._answers)

    def kill(self) -> None:
        """Kill the server and its child processes at once, suspended or not. It closes its connections."""
        if self.process is None:
            return
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self.process = None

    def suspend(self) -> None:
        """Stop the server as a hung one: the kernel accepts connections and data, and nobody answers."""
        for pid in self.pids():
            os.kill(pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a suspended server go on."""
        for pid in self.pids():
            os.kill(pid, signal.SIGCONT)

    def pids(self) -> list[int]:
        """Return the ids of the server process and of its children."""
        assert self.process is not None, f"{self.name} runs"
        return [self.process.pid, *children(self.process.pid)]

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"{self.name} ended with {self.process.returncode}"
        return self.is_answering()


@contextmanager
def own_redis(host: Host = THIS_MACHINE) -> Iterator[Server]:
    """Yield a running Redis; `redis_url` gives its URL."""
    command = _find("redis-server")
    port = free_port()
    arguments = ["--port", str(port), "--bind", host.address, "--save", "", "--appendonly", "no"]
    arguments += ["--protected-mode", "no"]
    server = Server("Redis", port, [command, *arguments], lambda: _redis_answers(host, port), host)
    with _running(server):
        yield server


def redis_url(server: Server) -> str:
    return f"redis://{server.host.address}:{server.port}/0"


@contextmanager
def own_postgresql(*settings: str, host: Host = THIS_MACHINE) -> Iterator[Server]:
    """Yield a running PostgreSQL; `postgresql_url` gives its URL. It trusts every login that reaches it.

    settings: lines of postgresql.conf, as `name=value`.
    """
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: path.parts[4])
    if not programs:
        missing("PostgreSQL's server programs are not in /usr/lib/postgresql")
    bin_folder = programs[-1].parent
    with _folder_of("postgres") as folder:
        data = folder / "data"
        initdb = [str(bin_folder / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "--no-sync"]
        subprocess.run(_as_user("postgres", initdb), check=True, stdout=subprocess.DEVNULL)
        port = free_port()
        with (data / "pg_hba.conf").open("a") as rules:
            rules.write("host all all samenet trust\n")
        sockets = f"unix_socket_directories={folder}"
        lines = (f"port={port}", f"listen_addresses={host.address}", sockets, *settings)
        arguments = [argument for line in lines for argument in ("-c", line)]
        command = [str(bin_folder / "postgres"), "-D", str(data), *arguments]
        server = Server(
            "PostgreSQL", port, command, lambda: _postgresql_answers(port, host), host, as_user="postgres"
        )
        with _running(server):
            yield server


def postgresql_url(server: Server, *, port: int | None = None, database: str = "postgres") -> str:
    """port: that of a proxy in front of the server, or None for the server's own."""
    return f"postgresql+psycopg://postgres@{server.host.address}:{port or server.port}/{database}"


@contextmanager
def own_pgbouncer(postgresql: Server, *, connections: int = 4) -> Iterator[Server]:
    """Yield a PgBouncer in transaction mode in front of that server, with so many connections to it."""
    command = _find("pgbouncer")
    port = free_port()
    with _folder_of("postgres") as folder:
        file = folder / "pgbouncer.ini"
        file.write_text(
            "[databases]\n"
            f"* = host=127.0.0.1 port={postgresql.port} user=postgres\n"
            "[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            "auth_type = any\npool_mode = transaction\nmax_client_conn = 500\n"
            f"default_pool_size = {connections}\nignore_startup_parameters = extra_float_digits\n"
        )
        file.chmod(0o644)
        server = Server(
            "PgBouncer", port, [command, str(file)], lambda: _postgresql_answers(port), as_user="postgres"
        )
        with _running(server):
            yield server


@dataclass
class Proxy:
    """Forwards connections to a port, until the test makes it go silent or cut them."""

    target: int
    port: int = 0
    _listener: socket.socket | None = None
    _sockets: list[socket.socket] = field(default_factory=list)
    _is_forwarding: threading.Event = field(default_factory=threading.Event)
    _lose_answer_to: bytes | None = None
    _after: bytes = b""
    _has_lost_answer: threading.Event = field(default_factory=threading.Event)

    def silence(self) -> None:
        """Forward nothing any more, and close nothing, as a firewall that drops every packet."""
        self._is_forwarding.clear()

    def resume(self) -> None:
        """Forward again, and first what was held back."""
        self._is_forwarding.set()

    def cut(self) -> None:
        """Close every open connection. New ones are forwarded."""
        sockets, self._sockets = self._sockets, []
        for each in sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def lose_next_answer_to(self, request: bytes, *, after: bytes = b"") -> threading.Event:
        """Cut the next connection that requests something with these bytes, once the server has answered.

        The server has done it then, and the client does not know. Returns an event, set when it happens.
        after: only on a connection that has requested something with these bytes before.
        """
        self._has_lost_answer = threading.Event()
        self._after = after
        self._lose_answer_to = request
        return self._has_lost_answer

    def accept_until_closed(self) -> None:
        assert self._listener is not None
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self._is_forwarding.wait()
        try:
            server = socket.create_connection(("127.0.0.1", self.target))
        except OSError:
            client.close()
            return
        self._sockets += [client, server]
        loses_answer = threading.Event()
        answers = threading.Thread(
            target=self._copy_answers, args=(server, client, loses_answer), daemon=True
        )
        answers.start()
        self._copy_requests(client, server, loses_answer)
        answers.join()
        client.close()
        server.close()

    def _copy_requests(
        self, client: socket.socket, server: socket.socket, loses_answer: threading.Event
    ) -> None:
        requested = b""  # what was requested on this connection
        with suppress(OSError):
            while data := client.recv(BUFFER_BYTES):
                self._is_forwarding.wait()
                requested = (requested + data)[-MOST_REMEMBERED_BYTES:]
                is_meant = self._lose_answer_to is not None and self._lose_answer_to in data
                if is_meant and self._after in requested:
                    self._lose_answer_to = None
                    loses_answer.set()
                server.sendall(data)
        with suppress(OSError):
            server.shutdown(socket.SHUT_WR)

    def _copy_answers(
        self, server: socket.socket, client: socket.socket, loses_answer: threading.Event
    ) -> None:
        with suppress(OSError):
            while data := server.recv(BUFFER_BYTES):
                self._is_forwarding.wait()
                if loses_answer.is_set():
                    self._has_lost_answer.set()
                    break
                client.sendall(data)
        for each in (client, server):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxy_to(port: int) -> Iterator[Proxy]:
    """Yield a proxy on a free port that forwards to this port of the loopback address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = Proxy(port, listener.getsockname()[1], listener)
        proxy.resume()
        threading.Thread(target=proxy.accept_until_closed, daemon=True).start()
        yield proxy
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        proxy.resume()
        proxy.cut()


def _find(program: str) -> str:
    command = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if command is None:
        missing(f"{program} is not installed")
    return command


@contextmanager
def _running(server: Server) -> Iterator[None]:
    try:
        server.start()
        yield
    finally:
        server.kill()


@contextmanager
def _folder_of(user: str) -> Iterator[Path]:
    """Yield an empty folder of that user, outside pytest's own folders, which only root may enter."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="palimpsest-test-")))
        if os.geteuid() == 0:
            identity = pwd.getpwnam(user)
            os.chown(folder, identity.pw_uid, identity.pw_gid)
        folder.chmod(0o755)
        yield folder


def _as_user(user: str | None, command: Sequence[str]) -> list[str]:
    if user is None or os.geteuid() != 0:
        return [*command]
    identity = pwd.getpwnam(user)
    return [
        "setpriv",
        f"--reuid={identity.pw_uid}",
        f"--regid={identity.pw_gid}",
        "--clear-groups",
        *command,
    ]


def _redis_answers(host: Host, port: int) -> bool:
    try:
        with redis.Redis(host.address, port, socket_timeout=1) as connection:
            return bool(connection.ping())
    except redis.RedisError:
        return False


def _postgresql_answers(port: int, host: Host = THIS_MACHINE) -> bool:
    options: dict[str, Any] = {"user": "postgres", "dbname": "postgres", "connect_timeout": 2}
    try:
        with psycopg.connect(host=host.address, port=port, **options) as connection:
            connection.execute("SELECT 1")
            return True
    except psycopg.OperationalError:
        return False
