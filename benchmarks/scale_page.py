"""The page docs/scale.md, made from the figures of benchmarks.scale."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.fleet_simulation import weights_of

INTRO = """# Scale

Written by `python -m benchmarks.scale` from [results/scale.json](results/scale.json); do not edit by hand.

How many workers does a deployment need, and what is full first? Jobs were timed on one worker with one
thread. From their durations a day is simulated: {models:,} models in {projects} projects get {requests:,.0f}
requests, {mix}. The rate swings by {swing:.0%} around its mean over the day. Some models are more
popular than others: the most popular one gets {hottest:.0%} of all requests. The simulation chooses jobs with
the code of the workers themselves.
"""
CHECK = """## Is the simulation right?

A real run of {requests} requests with {workers} workers and jobs of about a second, with the same popularity
of models: 95 of 100 requests waited at most {real:.2f} s. Simulated with durations that were measured before,
it is {predicted:.2f} s ({predicted_over:.0%} of that). Simulated with the durations of the run itself, it is
{replayed:.2f} s ({replayed_over:.0%}).
"""


def make_page(figures: Mapping[str, Any]) -> str:
    """Return the page as Markdown. figures: of the benchmark; `remark` is added later, to what has aged."""
    load, check = figures["load"], figures["check"]
    mix = ", ".join(f"{share:.0%} {name}" for name, share in load["mix"].items())
    hottest = 1 / sum(weights_of(load["models"], load["popularity"]))
    needed = figures["workers_for_p95_wait"]
    parts = [
        INTRO.format(
            models=load["models"],
            projects=load["projects"],
            requests=load["requests_a_day"],
            mix=mix,
            swing=load["swing"],
            hottest=hottest,
        ),
        *([f"{figures['remark']}\n"] if "remark" in figures else []),
        "## What a job takes\n",
        *_table(
            ("operation", "jobs timed", "median", "shortest", "longest"),
            (_durations(name, times) for name, times in figures["service_seconds"].items()),
        ),
        f"\nFrom a request to its job's start, with a free worker: {figures['dispatch_seconds']:.3f} s.\n",
        "## How many workers\n",
        " ".join(f"{_words(target, count)}" for target, count in needed.items()) + "\n",
        *_table(
            ("workers", "busy", "wait: median", "p95", "p99", "longest"), map(_waits, figures["workers"])
        ),
        "\n## More requests\n",
        f"With {figures['loads'][0]['workers']} workers:\n",
        *_table(
            ("times the load", "busy", "wait: median", "p95", "p99", "longest"),
            ((f"{one['times']:g}", *_waits(one)[1:]) for one in figures["loads"]),
        ),
        "\n## What is full first\n",
        "How busy each part is at the busiest hour, and at which multiple of the load it is full:\n",
        *_table(
            ("part", "busy", "full at"),
            (
                (name, f"{one['busy_share']:.1%}", f"{one['breaks_at_times']:g} times the load")
                for name, one in figures["breaks_first"].items()
            ),
        ),
        "\nMore workers move their own limit. The changes of one model run one after another, so no worker",
        "helps a model that is full. PostgreSQL commits in groups, so the limit of commits is SQLite's.\n",
        CHECK.format(
            requests=check["requests"],
            workers=check["workers"],
            real=check["real_p95_wait_seconds"],
            predicted=check["predicted_p95_wait_seconds"],
            predicted_over=check["predicted_over_real"],
            replayed=check["replayed_p95_wait_seconds"],
            replayed_over=check["replayed_over_real"],
        ),
    ]
    return "\n".join(parts)


def _durations(name: str, times: Sequence[float]) -> tuple[str, ...]:
    shown = (statistics.median(times), min(times), max(times))
    return name, str(len(times)), *(f"{one:.1f} s" for one in shown)


def _words(target: str, workers: int | None) -> str:
    if workers is None:
        return f"No number that was tried makes 95 of 100 requests start within {target} s."
    return f"95 of 100 requests start within {target} s with {workers} workers."


def _waits(one: Mapping[str, Any]) -> tuple[str, ...]:
    waits = one["wait_seconds"]
    shown = (waits["p50"], waits["p95"], waits["p99"], one["longest_wait_seconds"])
    return str(one["workers"]), f"{one['busy_share']:.0%}", *map(_seconds, shown)


def _seconds(value: float) -> str:
    return (
        f"{value:.1f} s"
        if value < 100
        else f"{value / 60:,.0f} min"
        if value < 7200
        else f"{value / 3600:,.0f} h"
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]
