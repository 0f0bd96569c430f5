"""Measure how many images a second are served, and what each costs, beside other software.

    python -m benchmarks.generation --json -                                all that is installed
    python -m benchmarks.generation --json - --only http sqlite             some of it
    python -m benchmarks.generation --install                               the environments of the others

One server process runs on the first core, the client on the second. The servers take turns, and a
run has `--rounds` of them; each figure is a median. For each server, each kind of request and each number of
connections:

`per_second`   requests answered in a second. Compare figures of one run only.
`cpu_us`       CPU time of the serving processes for one request.
`p50_ms`, `p99_ms`   how long a request took.

The kinds of requests: `digit`, an image that nobody requested before; `cached`, the same image again;
`not_modified`, the same with the ETag of its last answer; `head`, the newest version's; `grid`, 64 images as
one PNG; `sample`, a recorded sample of one image; `poll`, a job's state. Palimpsest is measured with API
keys, limits and metrics on.

The servers: `http` is a constant answer of uvicorn, and so the least that HTTP costs. `sqlite` and
`postgresql` are Palimpsest. `fastapi` is a plain endpoint with ONNX Runtime and Pillow; `litserve`, `bentoml`
(each also `batched`) and `mlflow` serve the same decoder. They need environments of their own, in
build/peers.
"""

import argparse
import itertools
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import psycopg

from benchmarks import constant_answer
from benchmarks.http_load import Measured, measure, pin
from benchmarks.load import serving
from benchmarks.output import make_parser, write_figures
from palimpsest import Palimpsest
from palimpsest.local_server import local_server
from service.registry import keys
from service.registry.database import Database
from service.registry.tables import DEFAULT_PROJECT
from service.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
PEERS = ROOT / "build" / "peers"
PROGRAMS = Path(__file__).parent / "peers"
COMMON = ("onnxruntime", "numpy", "pillow")
PACKAGES = {
    "fastapi": ("fastapi", "uvicorn[standard]"),
    "litserve": ("litserve",),
    "bentoml": ("bentoml",),
    "mlflow": ("mlflow",),
}
"""{environment: its packages besides COMMON}."""
CONNECTIONS = (1, 8, 32)
START_SECONDS = 120
MODEL, LABEL = "m", "1"


class Request(NamedTuple):
    """A kind of request to one server."""

    kind: str
    make: Callable[[], bytes]
    """Returns the bytes of the next request."""
    status: int = 200


class Target(NamedTuple):
    """A server to measure."""

    name: str
    port: int
    process: int
    requests: Sequence[Request]


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="rounds of all servers; %(default)s")
    parser.add_argument("--seconds", type=float, default=1.5, help="seconds of each measurement; %(default)s")
    parser.add_argument("--only", nargs="+", metavar="SERVER", help="measure these servers")
    parser.add_argument("--kinds", nargs="+", metavar="KIND", help="measure these kinds of requests")
    parser.add_argument(
        "--server",
        default="postgresql://postgres@127.0.0.1",
        help="where a PostgreSQL database is created; %(default)s",
    )
    parser.add_argument("--install", action="store_true", help="install what Palimpsest is compared with")
    options = parser.parse_args()
    if options.install:
        install()
        return
    os.sched_setaffinity(0, {1})
    with tempfile.TemporaryDirectory() as folder, ExitStack() as servers:
        write_figures(run(Path(folder), servers, options), options.json)


def install() -> None:
    """Create an environment for each of the others, with the newest releases of their packages."""
    uv = str(Path(sys.executable).with_name("uv"))
    for name, packages in PACKAGES.items():
        environment = str(PEERS / name)
        subprocess.run(
            [uv, "venv", "--quiet", "--clear", "--python", sys.executable, environment], check=True
        )
        python = ["--python", f"{environment}/bin/python"]
        subprocess.run([uv, "pip", "install", "--quiet", *python, *COMMON, *packages], check=True)


def run(folder: Path, servers: ExitStack, options: argparse.Namespace) -> dict[str, Any]:
    """Start the servers, and measure them in turn."""
    homes = {"sqlite": Settings(home=folder / "sqlite", port=0, auth="on")}
    if not options.only or "postgresql" in options.only:
        url = servers.enter_context(new_database(options.server))
        homes["postgresql"] = Settings(home=folder / "postgresql", port=0, auth="on", database_url=url)
    published = {name: publish(settings) for name, settings in homes.items()}
    starts: dict[str, Callable[[], AbstractContextManager[Target]]] = {
        "http": serve_constant,
        **{name: partial(serve_palimpsest, name, homes[name], published[name]) for name in homes},
        **{name: partial(serve_peer, name, folder, published["sqlite"].decoder) for name in COMMANDS},
    }
    targets = [
        servers.enter_context(start())
        for name, start in starts.items()
        if (not options.only or name in options.only) and is_installed(name)
    ]
    measured: dict[tuple[str, str, int], list[Measured]] = {}
    for _ in range(options.rounds):
        for kind in dict.fromkeys(request.kind for target in targets for request in target.requests):
            for connections, target in itertools.product(CONNECTIONS, targets):
                for request in target.requests:
                    if request.kind == kind and (not options.kinds or kind in options.kinds):
                        key = (target.name, kind, connections)
                        result = measure_one(target, request, connections, options.seconds)
                        measured.setdefault(key, []).append(result)
    figures: dict[str, Any] = {}
    for (name, kind, connections), results in measured.items():
        figures.setdefault(name, {}).setdefault(kind, {})[str(connections)] = summary(results)
    return {
        "rounds": options.rounds,
        "seconds": options.seconds,
        "versions": {name: installed_version(name) for name in PACKAGES if is_installed(name)},
        "servers": figures,
    }


def measure_one(target: Target, request: Request, connections: int, seconds: float) -> Measured:
    """Measure one kind of request. Raises RuntimeError if an answer is not the expected one."""
    pin(target.process, 0)
    result = measure(
        target.port, request.make, connections=connections, seconds=seconds, server=target.process
    )
    if set(result.statuses) != {request.status}:
        raise RuntimeError(f"{target.name} answered {request.kind} with {dict(result.statuses)}")
    return result


def summary(results: Sequence[Measured]) -> dict[str, Any]:
    """Return the medians of several rounds."""
    took = sorted(one for result in results for one in result.seconds)
    return {
        "per_second": round(statistics.median(result.per_second for result in results), 1),
        "cpu_us": round(statistics.median(result.cpu_us for result in results), 1),
        "p50_ms": round(1e3 * took[len(took) // 2], 3),
        "p99_ms": round(1e3 * took[int(len(took) * 0.99)], 3),
    }


# --- Palimpsest -----------------------------------------------------------------------------------


class Published(NamedTuple):
    """A version of the default size, its job, and a key to read it with."""

    decoder: bytes
    job: str
    key: str


def publish(settings: Settings) -> Published:
    """Learn two labels, in an empty home and database."""
    settings.home.mkdir()
    variables = {"PALIMPSEST_DATABASE_URL": settings.database_url}
    with local_server(settings.home, variables=variables) as url, Palimpsest(url) as client:
        client.models.create(MODEL, dataset="digits")
        params = {"schedule": {"steps": 300}}
        job = client.jobs.wait(client.models.learn(MODEL, ["0", LABEL], params=params), must_succeed=True)
        decoder = client.versions.file(MODEL, 1, "decoder.onnx")
    database = Database(settings.database_url)
    with database.transaction() as session:
        _, key = keys.create(session, name="load", scopes=["read", "sample"], project=DEFAULT_PROJECT)
    database.dispose()
    return Published(decoder, job.id, key)


@contextmanager
def serve_palimpsest(name: str, settings: Settings, published: Published) -> Iterator[Target]:
    with serving(settings) as (address, process):
        yield Target(name, port_of(address), process, requests_to_palimpsest(address, published))


def requests_to_palimpsest(address: str, published: Published) -> list[Request]:
    """Return the kinds of requests. The first image has been drawn, so that its decoder is loaded."""
    images, seeds = f"/v1/models/{MODEL}/versions/1/images/{LABEL}", itertools.count(1000)
    lines = f"Host: {address.removeprefix('http://')}\r\nAuthorization: Bearer {published.key}\r\n"
    bearer = {"Authorization": f"Bearer {published.key}"}
    first = httpx2.get(f"{address}{images}/5.png", headers=bearer)
    first.raise_for_status()
    etag = f"If-None-Match: {first.headers['ETag']}\r\n"
    head = images.replace("/versions/1/", "/versions/head/")
    sample = {"labels": [LABEL], "count": 1, "format": "png"}

    def get(path: str, more: str = "") -> bytes:
        return f"GET {path} HTTP/1.1\r\n{lines}{more}\r\n".encode()

    return [
        Request("digit", lambda: get(f"{images}/{next(seeds)}.png")),
        Request("cached", lambda: get(f"{images}/5.png")),
        Request("not_modified", lambda: get(f"{images}/5.png", etag), 304),
        Request("head", lambda: get(f"{head}/5.png")),
        Request("grid", lambda: get(f"{images}/{64 * next(seeds)}.png?grid=8x8")),
        Request("sample", lambda: post(f"/v1/models/{MODEL}/samples", lines, sample)),
        Request("poll", lambda: get(f"/v1/jobs/{published.job}")),
    ]


@contextmanager
def new_database(server: str) -> Iterator[str]:
    """Create a PostgreSQL database, yield its URL, and drop it."""
    name = f"palimpsest_generation_{os.getpid()}"
    with psycopg.connect(f"{server}/postgres", autocommit=True) as administration:
        administration.execute(f"CREATE DATABASE {name}")
        try:
            yield f"{server}/{name}"
        finally:
            administration.execute(f"DROP DATABASE {name} WITH (FORCE)")


# --- the others -----------------------------------------------------------------------------------


@contextmanager
def serve_constant() -> Iterator[Target]:
    with constant_answer.serving() as (address, process):
        line = f"GET / HTTP/1.1\r\nHost: {address.removeprefix('http://')}\r\n\r\n".encode()
        kinds = ("digit", "cached", "not_modified", "head", "grid", "poll")
        httpx2.get(address)  # answered once it has started
        yield Target("http", port_of(address), process, [Request(kind, lambda: line) for kind in kinds])


COMMANDS: Mapping[str, Sequence[str]] = {
    "fastapi": ("fastapi/bin/python", "plain_fastapi.py", "{port}"),
    "litserve": ("litserve/bin/python", "with_litserve.py", "{port}"),
    "litserve batched": ("litserve/bin/python", "with_litserve.py", "{port}", "batched"),
    "bentoml": (
        "bentoml/bin/bentoml", "serve", "with_bentoml:One", "--host", "127.0.0.1", "--port", "{port}",
    ),
    "bentoml batched": (
        "bentoml/bin/bentoml", "serve", "with_bentoml:Batched", "--host", "127.0.0.1", "--port", "{port}"
    ),
    "mlflow": (
        "mlflow/bin/mlflow", "models", "serve", "--model-uri", "{model}", "--env-manager", "local",
        "--host", "127.0.0.1", "--port", "{port}",
    ),
}  # fmt: skip


@contextmanager
def serve_peer(name: str, folder: Path, decoder: bytes) -> Iterator[Target]:
    """Run another server in its own environment, until the block ends."""
    environment = PEERS / name.split()[0]
    (folder / "decoder.onnx").write_bytes(decoder)
    variables = {
        **os.environ,
        "DECODER": str(folder / "decoder.onnx"),
        "PYTHONPATH": str(PROGRAMS),
        "PATH": f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}",
    }
    model = folder / "mlflow-model"
    if name == "mlflow":
        program = [str(environment / "bin/python"), "with_mlflow.py", str(model)]
        subprocess.run(program, cwd=PROGRAMS, env=variables, check=True, capture_output=True)
    port = free_port()
    command = [part.format(port=port, model=model) for part in COMMANDS[name]]
    with (folder / f"{name}.log").open("wb") as log:
        server = subprocess.Popen(
            [str(PEERS / command[0]), *command[1:]],
            cwd=PROGRAMS,
            env=variables,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        requests = requests_to_peer(name, port)
        wait_for(name, server, port, requests[0].make())
        yield Target(name, port, server.pid, requests)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)


def requests_to_peer(name: str, port: int) -> list[Request]:
    seeds, host = itertools.count(1000), f"Host: 127.0.0.1:{port}\r\n"

    def make(count: int) -> bytes:
        seed = count * next(seeds)
        if name == "fastapi":
            return f"GET /images/1/{seed}.png?count={count} HTTP/1.1\r\n{host}\r\n".encode()
        wanted = {"slot": 1, "seed": seed, "count": count}
        if name.startswith("litserve"):
            return post("/predict", host, wanted)
        if name == "bentoml":
            return post("/image", host, wanted)
        if name == "bentoml batched":
            return post("/image", host, {"wanted": [list(wanted.values())]})
        return post("/invocations", host, {"inputs": [wanted]})

    return [Request("digit", lambda: make(1)), Request("grid", lambda: make(64))]


def wait_for(name: str, server: "subprocess.Popen[bytes]", port: int, request: bytes) -> None:
    """Wait until the server answers the request with 200. Raises RuntimeError."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
                connection.sendall(request)
                if connection.recv(12)[9:] == b"200":
                    return
        except OSError:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"{name} does not answer on port {port}")


def post(path: str, lines: str, body: Mapping[str, Any]) -> bytes:
    content = json.dumps(body)
    more = f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n"
    return f"POST {path} HTTP/1.1\r\n{lines}{more}\r\n{content}".encode()


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def is_installed(name: str) -> bool:
    return name not in COMMANDS or (PEERS / name.split()[0] / "bin").exists()


def installed_version(name: str) -> str:
    """Return the version of the package in its environment."""
    program = f"from importlib.metadata import version; print(version({name!r}))"
    python = str(PEERS / name / "bin/python")
    return subprocess.run([python, "-c", program], check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()
