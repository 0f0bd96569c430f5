"""Write docs/speed.md from the figures of benchmarks.generation.

python -m benchmarks.generation_page docs/results/generation.json docs/speed.md
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

INTRO = """# Speed

Written by `python -m benchmarks.generation_page` from
[results/generation.json](results/generation.json); do not edit by hand.

How many images a second one process serves from one core, and the CPU time of the serving processes for
each, with a client that keeps 1, 8 or 32 connections busy from another core. Figures are medians of {rounds}
rounds, in which the servers took turns. Absolute numbers belong to one machine; ratios between servers of
one run say more.

`http` is uvicorn with a constant answer: the least that HTTP costs here. Palimpsest is measured with API
keys, limits and metrics on. `fastapi` is a plain endpoint with ONNX Runtime and Pillow. All others serve the
same decoder, and draw all images of a request in one batch: {versions}.
"""
LEAST_SHARE = 0.06
"""The least share of a constant answer's requests a second that a plain endpoint reaches undisturbed."""
NOT_VALID = """**This run does not count as a comparison**: at 32 connections the plain FastAPI endpoint
reached less than 6 % of a constant answer. On a quiet machine it reaches more, so something disturbed the
run. It is shown until another takes its place.
"""
KINDS = {
    "digit": "A digit that nobody requested before",
    "cached": "The same digit again",
    "not_modified": "The same digit, with the ETag of the last answer (304)",
    "head": "The same digit of the newest version (`head`)",
    "grid": "A grid of 64 new digits",
    "sample": "A recorded sample of one digit (a POST that writes a row)",
    "poll": "The state of a job",
}
PEERS = ("litserve", "litserve batched", "bentoml", "bentoml batched", "mlflow")
COUNTS = ("1", "8", "32")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("results", type=Path, help="the JSON of benchmarks.generation")
    parser.add_argument("page", type=Path, help="the file to write")
    options = parser.parse_args()
    options.page.write_text(make_page(json.loads(options.results.read_text())))


def make_page(results: Mapping[str, Any]) -> str:
    """Return the page as Markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    lines = [INTRO.format(rounds=results["rounds"], versions=versions)]
    servers = results["servers"]
    if not is_valid(servers):
        lines.append(NOT_VALID)
    for kind, title in KINDS.items():
        measured = {name: figures[kind] for name, figures in servers.items() if kind in figures}
        if measured:
            lines += [f"## {title}\n", *_table(measured), ""]
    lines += ["## Ratios\n", *_ratios(servers), ""]
    return "\n".join(lines)


def is_valid(servers: Mapping[str, Any]) -> bool:
    """Whether the run counts as a comparison: its plain endpoint was not slower than such an endpoint is."""
    plain, constant = (servers[name]["digit"]["32"]["per_second"] for name in ("fastapi", "http"))
    return bool(plain >= LEAST_SHARE * constant)


def _table(measured: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    yield "| server | requests/s at 1 / 8 / 32 | CPU us a request | p99, ms |"
    yield "|---|---|---|---|"
    for name, figures in measured.items():
        cells = (
            " / ".join(f"{figures[count][figure]:,.{digits}f}" for count in COUNTS)
            for figure, digits in (("per_second", 0), ("cpu_us", 0), ("p99_ms", 1))
        )
        yield f"| {name} | {' | '.join(cells)} |"


def _ratios(servers: Mapping[str, Any]) -> Iterator[str]:
    """Yield how Palimpsest compares: requests a second, divided by those of others in the same run."""
    peers = [name for name in PEERS if name in servers]
    yield "Requests a second of Palimpsest, divided by those of another server, at 1 / 8 / 32 connections.\n"
    yield "| | sqlite | postgresql |"
    yield "|---|---|---|"
    rows = [
        ("a new digit, and the fastest of LitServe, BentoML and MLflow", "digit", peers),
        ("a new digit, and the plain FastAPI endpoint", "digit", ["fastapi"]),
        ("a grid of 64, and the fastest of LitServe, BentoML and MLflow", "grid", peers),
        ("the same digit again, and a constant answer", "cached", ["http"]),
        ("304, and a constant answer", "not_modified", ["http"]),
        ("the state of a job, and a constant answer", "poll", ["http"]),
        ("the plain FastAPI endpoint's digit, and a constant answer", None, ["http"]),
    ]
    for title, kind, others in rows:
        names = ("sqlite", "postgresql") if kind else ("fastapi",)
        cells = [_ratio(servers, name, kind or "digit", others) for name in names]
        yield f"| {title} | {' | '.join(cells)} |{' |' if kind is None else ''}"


def _ratio(servers: Mapping[str, Any], name: str, kind: str, others: list[str]) -> str:
    if name not in servers or not others or any(other not in servers for other in others):
        return "not measured"
    ratios = (
        servers[name][kind][count]["per_second"]
        / max(servers[other][kind][count]["per_second"] for other in others)
        for count in COUNTS
    )
    return " / ".join(f"{ratio:.2f}" for ratio in ratios)


if __name__ == "__main__":
    main()
